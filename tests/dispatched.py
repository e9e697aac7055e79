"""What ops a piece of code runs."""

from torch.utils._python_dispatch import TorchDispatchMode


class Calls(TorchDispatchMode):
    """Records the ops that reach a backend, with their arguments and results."""

    def __init__(self):
        super().__init__()
        self.seen = []
        self.results = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        self.seen.append((str(function), args))
        self.results[str(function)] = result
        return result
