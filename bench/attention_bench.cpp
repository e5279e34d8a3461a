// Times attention over paged keys and values for the shapes of real models: decoding at several
// batch sizes and depths, prefill, a prefix that all share, pages that lie apart. Every layer of a
// step has its own pages, so caches are as cold as in a real step. The answer is checked against
// the scalar kernels before anything is timed.
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "bench/machine_limits.hpp"
#include "compute/context.hpp"
#include "compute/ops/attention.hpp"
#include "compute/ops/shared_prefix.hpp"

using namespace quire;

namespace {

using clock_type = std::chrono::steady_clock;

struct model_shape {
  const char* name;
  std::uint32_t layers, heads, kv_heads, head_dim, window;
};

constexpr model_shape models[] = {{"smollm2-135m", 30, 9, 3, 64, 0},
                                  {"gemma3-270m", 18, 4, 1, 256, 512},
                                  {"llama3.2-1b", 16, 32, 8, 64, 0}};

struct scenario {
  std::uint32_t sequences, stored, added;
};

struct options {
  std::string isa = "auto";
  std::size_t threads = 0;
  std::string model = "smollm2-135m";
  std::vector<std::string> types{"f16", "q8", "q4"};
  std::vector<scenario> scenarios{{1, 200, 1},  {64, 200, 1}, {1, 2048, 1},
                                  {1, 7936, 1}, {1, 0, 512},  {1, 2048, 512}};
  double seconds = 0.5;          // per measurement
  std::uint32_t shared = 0;      // leading positions that all sequences share
  bool row_independent = false;  // as with compute.batch_invariant
  bool shuffled = false;         // pages in random places instead of one after the other
};

[[noreturn]] void stop(const std::string& message) {
  std::fprintf(stderr, "quire_attention_bench: %s\n", message.c_str());
  std::exit(2);
}

options parse(int argc, char** argv) {
  options o;
  for (int i = 1; i < argc; i += 2) {
    const std::string flag = argv[i];
    if (i + 1 >= argc)
      stop(
          "usage: [--isa NAME] [--threads N] [--model NAME] [--types q8,f16] [--seconds S] "
          "[--scenarios SEQUENCESxSTORED+ADDED,...] [--shared POSITIONS] [--pages "
          "adjacent|shuffled]");
    std::istringstream value(argv[i + 1]);
    std::string item;
    if (flag == "--isa")
      value >> o.isa;
    else if (flag == "--threads")
      value >> o.threads;
    else if (flag == "--model")
      value >> o.model;
    else if (flag == "--seconds")
      value >> o.seconds;
    else if (flag == "--shared")
      value >> o.shared;
    else if (flag == "--batch-invariant") {
      value >> item;
      o.row_independent = item == "on";
    } else if (flag == "--pages") {
      value >> item;
      if (item != "adjacent" && item != "shuffled") stop("pages are adjacent or shuffled");
      o.shuffled = item == "shuffled";
    } else if (flag == "--types") {
      o.types.clear();
      while (std::getline(value, item, ',')) o.types.push_back(item);
    } else if (flag == "--scenarios") {
      o.scenarios.clear();
      while (std::getline(value, item, ',')) {
        scenario s{};
        if (std::sscanf(item.c_str(), "%ux%u+%u", &s.sequences, &s.stored, &s.added) != 3)
          stop("not a scenario: " + item);
        o.scenarios.push_back(s);
      }
    } else {
      stop("unknown flag " + flag);
    }
  }
  return o;
}

// Pages as the engine has them: mapped, and backed by huge pages where the system gives them.
class page_memory {
 public:
  page_memory() = default;
  page_memory(const page_memory&) = delete;
  page_memory& operator=(const page_memory&) = delete;
  ~page_memory() {
    if (data_ != nullptr) munmap(data_, bytes_);
  }
  void reset(std::size_t bytes) {
    bytes_ = bytes;
    void* mapped = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) stop("no memory for the pages");
    madvise(mapped, bytes, MADV_HUGEPAGE);
    data_ = static_cast<std::byte*>(mapped);
  }
  std::byte* data() const { return data_; }

 private:
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
};

// The sequences of a step with their pages: laid out one after the other, filled with noise.
class workload {
 public:
  workload(const model_shape& shape, kv_types types, const scenario& s, const options& o)
      : shape_(shape),
        scenario_(s),
        shared_(o.shared),
        layout_(kv_layout::make(shape.layers, shape.kv_heads, shape.head_dim, 16, types.k, types.v)
                    .value()) {
    const std::uint32_t pages_each = (s.stored + s.added + 15) / 16;
    pages_.reset(std::size_t{pages_each} * s.sequences * layout_.page_bytes);
    std::mt19937 random(1);
    std::vector<page_id> ids;
    for (std::uint32_t i = 0; i < pages_each * s.sequences; ++i) ids.push_back(page_id{i});
    if (o.shuffled) std::shuffle(ids.begin(), ids.end(), random);
    for (std::uint32_t i = 0; i < s.sequences; ++i) {
      const auto first = ids.begin() + static_cast<std::ptrdiff_t>(std::size_t{i} * pages_each);
      tables_.emplace_back(first, first + pages_each);
      std::copy_n(tables_[0].begin(), std::min(o.shared, s.stored) / 16, tables_[i].begin());
    }
    for (std::uint32_t i = 0; i < s.sequences; ++i)
      sequences_.push_back({tables_[i], s.stored, s.added, i * s.added});
    sharing_.find(sequences_, 16);
    std::normal_distribution<float> normal;
    const std::size_t rows = std::size_t{s.sequences} * s.added;
    q_.resize(rows * shape.heads * shape.head_dim);
    const std::size_t most = std::max<std::size_t>(rows, s.stored);
    kv_.resize(most * shape.kv_heads * shape.head_dim);
    for (auto& x : q_) x = normal(random);
    for (auto& x : kv_) x = normal(random);
    out_.resize(q_.size());
  }

  void fill(const compute_context& context) {
    for (std::uint32_t layer = 0; layer < shape_.layers; ++layer) {
      store(context, layer);
      if (scenario_.stored == 0) continue;
      for (const auto& sequence : sequences_) {
        const attention_sequence past{sequence.table, 0, scenario_.stored, 0};
        store_kv(context, kv(layer), std::span(&past, 1), kv_.data(), kv_.data(), kv_stride());
      }
    }
  }

  void store(const compute_context& context, std::uint32_t layer) {
    store_kv(context, kv(layer), sequences_, kv_.data(), kv_.data(), kv_stride());
  }

  const std::vector<float>& attend(const compute_context& context, std::uint32_t layer) {
    const std::size_t width = std::size_t{shape_.heads} * shape_.head_dim;
    attention(context, {.kv = kv(layer),
                        .sequences = sequences_,
                        .q = q_.data(),
                        .q_stride = width,
                        .out = out_.data(),
                        .out_stride = width,
                        .num_heads = shape_.heads,
                        .scale = 1.0f / std::sqrt(static_cast<float>(shape_.head_dim)),
                        .sharing = &sharing_,
                        .window = shape_.window});
    return out_;
  }

  // Bytes of rows that a step must read, over all layers; what is shared counts once.
  double row_bytes() const {
    const double seen = shape_.window == 0 || scenario_.added > 1
                            ? scenario_.stored + scenario_.added
                            : std::min(scenario_.stored + scenario_.added, shape_.window);
    const double again =
        std::min(shared_, scenario_.stored) / 16 * 16 * (scenario_.sequences - 1.0);
    return (seen * scenario_.sequences - again) * static_cast<double>(layout_.token_bytes());
  }

  // Multiplications and additions that a step must do, over all layers.
  double products() const {
    double seen = 0;
    for (std::uint32_t t = 0; t < scenario_.added; ++t) {
      const std::uint32_t own = scenario_.stored + t + 1;
      seen += shape_.window == 0 ? own : std::min(own, shape_.window);
    }
    return 2.0 * seen * scenario_.sequences * shape_.heads * shape_.head_dim * shape_.layers;
  }

 private:
  std::size_t kv_stride() const { return std::size_t{shape_.kv_heads} * shape_.head_dim; }
  paged_kv kv(std::uint32_t layer) { return {pages_.data(), &layout_, layer}; }

  model_shape shape_;
  scenario scenario_;
  std::uint32_t shared_;
  kv_layout layout_;
  page_memory pages_;
  std::vector<std::vector<page_id>> tables_;
  std::vector<attention_sequence> sequences_;
  prefix_sharing sharing_;
  std::vector<float> q_;
  std::vector<float> kv_;
  std::vector<float> out_;
};

// Seconds that a step takes: the median, and the least disturbed.
struct timing {
  double median;
  double best;
};

template <class Step>
timing measure(double budget, const arena& threads, Step step) {
  std::vector<double> times;
  const auto start = clock_type::now();
  do {
    const double begin = bench::bench_seconds(threads);
    step();
    times.push_back(bench::bench_seconds(threads) - begin);
  } while (times.size() < 3 ||
           std::chrono::duration<double>(clock_type::now() - start).count() < budget);
  std::sort(times.begin(), times.end());
  return {times[times.size() / 2], times.front()};
}

// Integer products round queries to 1/254 of their largest value: scores of size 1 are off by some
// thousandths, and with them the weights.
void check(const compute_context& context, workload& work, bool quantized) {
  const float tolerance = quantized ? 0.03f : 1e-4f;
  const std::vector<float> fast = work.attend(context, 0);
  const compute_context oracle{compiled_kernels().back(), context.threads};
  const std::vector<float>& slow = work.attend(oracle, 0);
  for (std::size_t i = 0; i < fast.size(); ++i)
    if (!(std::fabs(fast[i] - slow[i]) < tolerance)) stop("the answer is wrong: nothing is timed");
}

}  // namespace

int main(int argc, char** argv) {
  const options o = parse(argc, argv);
  const auto kernels = select_kernels(o.isa);
  if (!kernels) stop(kernels.error().message);
  const auto* shape = std::find_if(std::begin(models), std::end(models),
                                   [&](const auto& m) { return o.model == m.name; });
  if (shape == std::end(models)) stop("unknown model " + o.model);
  arena threads(o.threads);
  const compute_context context{*kernels, &threads, o.row_independent};
  std::printf("%s, %zu threads, %s: times are of all %u layers of a step\n", shape->name,
              threads.num_threads(), std::string(isa_name(**kernels)).c_str(), shape->layers);
  const double limit = bench::stream_read_limit(threads);
  const bench::dot_peak dot = bench::dot_product_peak(threads, isa_name(**kernels));
  std::printf("memory beyond the caches reads at %.1f GB/s; %s does %.0f GMAC/s\n", limit / 1e9,
              dot.instruction.c_str(), dot.macs_per_second / 1e9);
  std::printf("%-6s %-16s %10s %10s %10s %10s %6s %10s %6s\n", "type", "scenario", "store ms",
              "attend ms", "best ms", "rows GB/s", "share", "GMAC/s", "share");
  for (const auto& s : o.scenarios)
    for (const auto& name : o.types) {
      const auto types = parse_kv_types(name);
      if (!types) stop("unknown type " + name);
      workload work(*shape, *types, s, o);
      work.fill(context);
      check(context, work, types->k == kv_type::q8 || types->k == kv_type::q4);
      arena::hot awake(threads);
      const timing storing = measure(o.seconds / 4, threads, [&] {
        for (std::uint32_t layer = 0; layer < shape->layers; ++layer) work.store(context, layer);
      });
      const timing attending = measure(o.seconds, threads, [&] {
        for (std::uint32_t layer = 0; layer < shape->layers; ++layer) work.attend(context, layer);
      });
      const std::string label = std::to_string(s.sequences) + "x" + std::to_string(s.stored) + "+" +
                                std::to_string(s.added);
      const double bytes = work.row_bytes() / attending.best;
      const double macs = work.products() / attending.best;
      std::printf("%-6s %-16s %10.3f %10.3f %10.3f %10.2f %5.0f%% %10.1f %5.0f%%\n", name.c_str(),
                  label.c_str(), storing.median * 1e3, attending.median * 1e3, attending.best * 1e3,
                  bytes / 1e9, 100 * bytes / limit, macs / 1e9,
                  100 * macs / std::max(1.0, dot.macs_per_second));
    }
  return 0;
}
