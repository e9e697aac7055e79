"""Processes of one group, as what shards and synchronises models wants them."""

import torch
import torch.distributed as dist

WORLD = 2


def of_each_rank(function, folder):
    """What ``function(rank)`` gives in each of two processes that gloo connects.

    Args:
        function: Of a module: the processes import it.
        folder: Where they meet, and leave their results.
    """
    torch.multiprocessing.spawn(_rank, (function, str(folder)), WORLD)
    return [torch.load(f"{folder}/{rank}.pt") for rank in range(WORLD)]


def _rank(rank, function, folder):
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=WORLD)
    torch.save(function(rank), f"{folder}/{rank}.pt")
    dist.destroy_process_group()
