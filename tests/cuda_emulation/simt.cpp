// The runtime of simt.h. Compiled without -fsanitize=thread, or its own accesses would be judged;
// with VAE_FAST_TSAN it tells the sanitizer what orders what.
#include "simt.h"

#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>
#include <numeric>
#include <random>
#include <unordered_map>
#include <vector>

#ifdef VAE_FAST_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#ifdef VAE_FAST_TSAN
extern "C" {
void* __tsan_get_current_fiber();
void* __tsan_create_fiber(unsigned flags);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void __tsan_acquire(void* object);
void __tsan_release(void* object);
}
#define IF_TSAN(...) __VA_ARGS__
#else
#define IF_TSAN(...)
#endif

namespace simt {

Place* place;
dim3 block_size, grid_size;
Launched launched;
void (*after_launch)();
std::mutex turn;

namespace {

constexpr size_t kStackBytes = 64 << 10;
constexpr size_t kGuardBytes = 256;  // around a shared array; a multiple of its alignment
constexpr unsigned kWarp = 32;
// Every thread of a launch is a fiber of its own to ThreadSanitizer, which has no more than 8128.
[[maybe_unused]] constexpr unsigned kMaxTsanThreads = 7000;

enum class State { kReady, kAtCollective, kAtBarrier, kDone };

// Where a strand goes on.
struct Context {
  ucontext_t entry;
  jmp_buf next;
  bool is_entered = false;
};

// What a fiber runs on, one fiber after another; kept from launch to launch.
struct Strand {
  Context context;
  char* stack = nullptr;
  void* tsan = nullptr;        // ThreadSanitizer's idea of it
  void* fake_stack = nullptr;  // AddressSanitizer's
};

struct Fiber {
  Place at;
  State state = State::kReady;
  Strand* strand = nullptr;
  int line = 0;  // where it waits
  // Its part in a collective, and what came of it.
  Collective kind;
  unsigned mask = 0;
  uint64_t value = 0, result = 0;
  int source = 0;
  // For fences: what its atomics have seen published, and its own last fence.
  std::vector<void*> seen;
  void* fenced = nullptr;
};

// Objects whose addresses stand for "what happened before" to ThreadSanitizer. All live until the
// launch has ended, so that no address is used twice.
class Marks {
 public:
  void* fresh() { return marks_.emplace_back(std::make_unique<char>()).get(); }
  void clear() { marks_.clear(); }

 private:
  std::vector<std::unique_ptr<char>> marks_;
};

struct Machine {
  unsigned schedule = kForward;
  int64_t threads_run = 0;
  void (*body)(void*) = nullptr;
  void* context = nullptr;

  std::vector<Fiber> fibers;  // the block's
  unsigned current = 0;
  Context scheduler = {{}, {}, true};

  // A block's own: one barrier object for each block, or blocks would order one another.
  void* barrier_mark = nullptr;
  std::vector<void*> warp_marks;
  std::unordered_map<const void*, void*> shared;

  std::deque<Strand> strands;
  size_t strands_in_use = 0;

  // A launch's own.
  Marks marks;
  void* start_mark = nullptr;
  void* end_mark = nullptr;
  void* shared_mark = nullptr;
  std::unordered_map<const void*, std::vector<void*>> published;  // by atomics after a fence
  std::vector<void*> shared_to_free;

  void* main_tsan = nullptr;
  const void* main_stack = nullptr;
  size_t main_stack_bytes = 0;
  void* main_fake_stack = nullptr;
} machine;

Fiber& running() { return machine.fibers[machine.current]; }

// Allocations are made as the scheduler, or ThreadSanitizer would see them order the threads.
class AsScheduler {
 public:
  AsScheduler() {
    IF_TSAN(fiber_ = __tsan_get_current_fiber(); __tsan_switch_to_fiber(machine.main_tsan, 1);)
  }
  ~AsScheduler() { IF_TSAN(__tsan_switch_to_fiber(fiber_, 1);) }

 private:
  [[maybe_unused]] void* fiber_ = nullptr;
};

void acquire([[maybe_unused]] void* mark) { IF_TSAN(__tsan_acquire(mark);) }
void release([[maybe_unused]] void* mark) { IF_TSAN(__tsan_release(mark);) }

// ---- switching between fibers ------------------------------------------------------------------

void change(Context& from, Context& to) {
#if defined(VAE_FAST_ASAN) || defined(VAE_FAST_TSAN)
  swapcontext(&from.entry, &to.entry);
#else
  // Half the time of a run would be swapcontext's system calls, for the mask of signals.
  if (_setjmp(from.next) != 0) return;
  if (to.is_entered) _longjmp(to.next, 1);
  to.is_entered = true;
  setcontext(&to.entry);
#endif
}

void to_scheduler() {
  Strand& strand = *running().strand;
  IF_TSAN(__tsan_switch_to_fiber(machine.main_tsan, 1);)
#ifdef VAE_FAST_ASAN
  __sanitizer_start_switch_fiber(&strand.fake_stack, machine.main_stack, machine.main_stack_bytes);
#endif
  change(strand.context, machine.scheduler);
#ifdef VAE_FAST_ASAN
  __sanitizer_finish_switch_fiber(strand.fake_stack, &machine.main_stack,
                                  &machine.main_stack_bytes);
#endif
}

void to_fiber(unsigned index) {
  machine.current = index;
  Fiber& fiber = running();
  place = &fiber.at;
  IF_TSAN(__tsan_switch_to_fiber(fiber.strand->tsan, 1);)
#ifdef VAE_FAST_ASAN
  __sanitizer_start_switch_fiber(&machine.main_fake_stack, fiber.strand->stack, kStackBytes);
#endif
  change(machine.scheduler, fiber.strand->context);
#ifdef VAE_FAST_ASAN
  __sanitizer_finish_switch_fiber(machine.main_fake_stack, nullptr, nullptr);
#endif
}

void strand_main() {
#ifdef VAE_FAST_ASAN
  __sanitizer_finish_switch_fiber(nullptr, &machine.main_stack, &machine.main_stack_bytes);
#endif
  for (;;) {
    acquire(machine.start_mark);
    machine.body(machine.context);
    release(machine.end_mark);
    running().state = State::kDone;
    to_scheduler();
  }
}

void make_strand() {
  Strand& strand = machine.strands.emplace_back();
  void* stack =
      mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (stack == MAP_FAILED) fail("no memory for a stack");
  strand.stack = static_cast<char*>(stack);
  IF_TSAN(strand.tsan = __tsan_create_fiber(0);)
  ucontext_t& entry = strand.context.entry;
  getcontext(&entry);
  entry.uc_stack.ss_sp = strand.stack;
  entry.uc_stack.ss_size = kStackBytes;
  entry.uc_link = nullptr;
  makecontext(&entry, strand_main, 0);
}

void start_fiber(unsigned index, unsigned block) {
  Fiber& fiber = machine.fibers[index];
  fiber.at = {{index, 0, 0}, {block, 0, 0}};
  if (machine.strands_in_use == machine.strands.size()) make_strand();
  fiber.strand = &machine.strands[machine.strands_in_use++];
}

// ---- collectives and barriers ------------------------------------------------------------------

[[noreturn]] void fail_at(const Fiber& fiber, const char* format, int a, unsigned b = 0) {
  place = const_cast<Place*>(&fiber.at);
  char text[200];
  std::snprintf(text, sizeof text, format, a, b);
  fail("%s", text);
}

// Lanes of the warp that wait in the same collective as `fiber`.
unsigned waiting_with(const Fiber& fiber, unsigned first, unsigned last, bool same_mask) {
  unsigned lanes = 0;
  for (unsigned i = first; i < last; ++i) {
    const Fiber& other = machine.fibers[i];
    const bool together = other.state == State::kAtCollective && other.line == fiber.line &&
                          other.kind == fiber.kind && (!same_mask || other.mask == fiber.mask);
    if (together) lanes |= 1u << (i - first);
  }
  return lanes;
}

void complete(unsigned lanes, unsigned first, unsigned last) {
  unsigned ballot = 0;
  for (unsigned i = first; i < last; ++i) {
    if (lanes >> (i - first) & 1) ballot |= (machine.fibers[i].value != 0) << (i - first);
  }
  for (unsigned i = first; i < last; ++i) {
    Fiber& fiber = machine.fibers[i];
    if (!(lanes >> (i - first) & 1)) continue;
    if (fiber.kind == Collective::kShuffle && first + fiber.source >= last) {
      fail_at(fiber, "line %d: shuffle from a lane past the block", fiber.line);
    }
    fiber.result =
        fiber.kind == Collective::kShuffle ? machine.fibers[first + fiber.source].value : ballot;
  }
  for (unsigned i = first; i < last; ++i) {
    if (lanes >> (i - first) & 1) machine.fibers[i].state = State::kReady;
  }
}

// Completes the collectives of a warp for which all lanes of the mask have arrived.
bool complete_collectives(unsigned first, unsigned last) {
  bool any = false;
  for (unsigned i = first; i < last; ++i) {
    const Fiber& fiber = machine.fibers[i];
    if (fiber.state != State::kAtCollective) continue;
    unsigned mask = fiber.mask;
    if (last - first < kWarp) mask &= (1u << (last - first)) - 1;
    if ((waiting_with(fiber, first, last, false) & mask) != mask) continue;
    if ((waiting_with(fiber, first, last, true) & mask) != mask) {
      fail_at(fiber, "line %d: the lanes give different masks", fiber.line);
    }
    complete(mask, first, last);
    any = true;
  }
  return any;
}

// All threads that are not done wait at a barrier.
void complete_barrier(unsigned done) {
  const Fiber* first = nullptr;
  for (Fiber& fiber : machine.fibers) {
    if (fiber.state != State::kAtBarrier) continue;
    if (first == nullptr) first = &fiber;
    if (first->line != fiber.line) {
      fail_at(fiber, "divergent __syncthreads: line %d and line %u", first->line, fiber.line);
    }
  }
  if (done > 0)
    fail_at(*first, "__syncthreads, line %d: %u threads have ended before", first->line, done);
  for (Fiber& fiber : machine.fibers) fiber.state = State::kReady;
}

void put_in_order(std::vector<unsigned>& order, std::mt19937& random) {
  if (machine.schedule == kBackward) std::reverse(order.begin(), order.end());
  if (machine.schedule >= kFirstShuffle) std::shuffle(order.begin(), order.end(), random);
}

std::vector<unsigned> numbers(unsigned n) {
  std::vector<unsigned> result(n);
  std::iota(result.begin(), result.end(), 0u);
  return result;
}

unsigned count(State state) {
  return static_cast<unsigned>(
      std::count_if(machine.fibers.begin(), machine.fibers.end(),
                    [&](const Fiber& fiber) { return fiber.state == state; }));
}

void run_block(unsigned block, std::mt19937& random) {
  const unsigned threads = block_size.x;
  machine.fibers.clear();
  machine.fibers.resize(threads);
  machine.barrier_mark = machine.marks.fresh();
  machine.warp_marks.clear();
  for (unsigned i = 0; i < threads; i += kWarp) machine.warp_marks.push_back(machine.marks.fresh());
#ifndef VAE_FAST_TSAN
  machine.strands_in_use = 0;  // to ThreadSanitizer blocks on one stack would share its memory
#endif
  for (unsigned i = 0; i < threads; ++i) start_fiber(i, block);
  std::vector<unsigned> order = numbers(threads);
  for (unsigned done = 0; done < threads;) {
    put_in_order(order, random);
    bool progress = false;
    for (const unsigned i : order) {
      if (machine.fibers[i].state != State::kReady) continue;
      to_fiber(i);
      progress = true;
    }
    for (unsigned first = 0; first < threads; first += kWarp) {
      progress |= complete_collectives(first, std::min(threads, first + kWarp));
    }
    done = count(State::kDone);
    const unsigned waiting = count(State::kAtBarrier);
    if (waiting > 0 && waiting + done == threads) {
      complete_barrier(done);
    } else if (!progress && done < threads) {
      for (const Fiber& fiber : machine.fibers) {
        if (fiber.state == State::kAtCollective) {
          fail_at(fiber, "deadlock at line %d: a lane of the mask %08x never comes", fiber.line,
                  fiber.mask);
        }
      }
    }
  }
  for (const auto& [key, array] : machine.shared) machine.shared_to_free.push_back(array);
  machine.shared.clear();
  place = nullptr;
}

}  // namespace

// ---- the interface -----------------------------------------------------------------------------

void fail(const char* format, ...) {
  std::fprintf(stderr, "SIMT ERROR block %u thread %u: ", place ? place->block.x : 0,
               place ? place->thread.x : 0);
  va_list arguments;
  va_start(arguments, format);
  std::vfprintf(stderr, format, arguments);
  va_end(arguments);
  std::fputc('\n', stderr);
  _exit(66);
}

void set_schedule(unsigned schedule) { machine.schedule = schedule; }

int64_t threads_run() { return machine.threads_run; }

int run(unsigned blocks, unsigned threads, void (*body)(void*), void* context) {
  block_size = {threads, 1, 1};
  grid_size = {blocks, 1, 1};
  machine.body = body;
  machine.context = context;
  machine.threads_run += static_cast<int64_t>(blocks) * threads;
  machine.strands_in_use = 0;
  machine.start_mark = machine.marks.fresh();
  machine.end_mark = machine.marks.fresh();
  machine.shared_mark = machine.marks.fresh();
#ifdef VAE_FAST_TSAN
  machine.main_tsan = __tsan_get_current_fiber();
  if (blocks * threads > kMaxTsanThreads) {
    // No fault of the kernel's: not an error of the emulated machine, which planted_bugs.py awaits.
    std::fprintf(stderr, "%u blocks of %u threads: no room under ThreadSanitizer\n", blocks,
                 threads);
    _exit(EXIT_FAILURE);
  }
#endif
  release(machine.start_mark);
  std::mt19937 random(machine.schedule);
  std::vector<unsigned> order = numbers(blocks);
  put_in_order(order, random);
  for (const unsigned block : order) run_block(block, random);
  acquire(machine.end_mark);
  machine.published.clear();
  for (void* array : machine.shared_to_free) std::free(array);
  machine.shared_to_free.clear();
  machine.fibers.clear();
  machine.marks.clear();
  return 0;
}

void* shared_array(const void* key, size_t bytes) {
  void* array = nullptr;
  {
    AsScheduler guard;
    void*& block = machine.shared[key];
    const size_t all = kGuardBytes + bytes + kGuardBytes;
    if (block == nullptr) {
      if (posix_memalign(&block, 16, all) != 0) fail("no memory for a shared array");
      std::memset(block, 0xff, all);
#ifdef VAE_FAST_ASAN
      __asan_poison_memory_region(block, kGuardBytes);
      __asan_poison_memory_region(static_cast<char*>(block) + kGuardBytes + bytes, kGuardBytes);
#endif
      release(machine.shared_mark);
    }
    array = static_cast<char*>(block) + kGuardBytes;
  }
  acquire(machine.shared_mark);
  return array;
}

uint64_t collective(Collective kind, unsigned mask, uint64_t value, int source, int line) {
  Fiber& fiber = running();
  if (!(mask >> lane() & 1)) fail("line %d: lane %d is not in its own mask", line, lane());
  if (kind == Collective::kShuffle && !(mask >> source & 1)) {
    fail("line %d: shuffle from lane %d, which is not in the mask", line, source);
  }
  fiber.kind = kind;
  fiber.mask = mask;
  fiber.value = value;
  fiber.source = source;
  fiber.line = line;
  fiber.state = State::kAtCollective;
  // Of the collectives only __syncwarp orders memory.
  void* const mark = machine.warp_marks[machine.current / kWarp];
  if (kind == Collective::kSyncWarp) release(mark);
  to_scheduler();
  if (kind == Collective::kSyncWarp) acquire(mark);
  return running().result;
}

void block_barrier(int line) {
  Fiber& fiber = running();
  fiber.line = line;
  fiber.state = State::kAtBarrier;
  release(machine.barrier_mark);
  to_scheduler();
  acquire(machine.barrier_mark);
}

// The rule of C++ and PTX: a fence before an atomic publishes, a fence after one that saw what was
// published receives. Atomics alone order nothing.
void fence() {
  Fiber& fiber = running();
  for (void* mark : fiber.seen) acquire(mark);
  {
    AsScheduler guard;
    fiber.seen.clear();
    fiber.fenced = machine.marks.fresh();
  }
  release(fiber.fenced);
}

void before_atomic(const void* address) {
  AsScheduler guard;
  if (running().fenced != nullptr) machine.published[address].push_back(running().fenced);
}

void after_atomic(const void* address) {
  AsScheduler guard;
  const std::vector<void*>& published = machine.published[address];
  running().seen.insert(running().seen.end(), published.begin(), published.end());
}

}  // namespace simt

// The functions of CUDA's runtime that the launch functions need.
extern "C" const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaSuccess ? "no error" : "invalid argument";
}

extern "C" cudaError_t cudaMemsetAsync(void* memory, int value, size_t bytes, cudaStream_t) {
  std::memset(memory, value, bytes);
  return cudaSuccess;
}
