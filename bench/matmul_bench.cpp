// Times matrix products for every row regime and tensor type, as shares of the machine's limits,
// which are measured in the same run. By default the shapes of SmolLM2-135M. Weights are cold:
// enough copies are cycled through to exceed the caches. With --threads 1 times are processor time.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sstream>
#include <string>
#include <vector>

#include "bench/machine_limits.hpp"
#include "compute/kernel_table.hpp"
#include "compute/matmul_kernels.hpp"
#include "compute/ops/matmul.hpp"
#include "core/half.hpp"

using namespace quire;

namespace {

struct options {
  std::string isa = "auto";
  std::size_t threads = 0;
  std::vector<std::string> types{"Q4_1", "Q8_0", "Q4_0", "Q5_0", "Q4_K", "Q6_K", "F16"};
  std::vector<std::size_t> rows{1, 2, 4, 8, 16, 32, 64, 128, 512};
  std::vector<std::string> shapes{"576x576", "192x576", "1536x576", "576x1536", "49152x576"};
  bool model = true;
  int wide_rows = -1;     // from how many rows on wide products are used; -1: as the ISA has it
  long long_values = -1;  // from how many activations on long products are used; -1: likewise
  double seconds = 0.1;   // per measurement
};

struct limits {
  double read_bytes = 0.0;
  double macs = 0.0;
};

std::vector<std::string> split(const std::string& list) {
  std::vector<std::string> items;
  std::istringstream stream(list);
  for (std::string item; std::getline(stream, item, ',');) items.push_back(item);
  return items;
}

[[noreturn]] void stop(const std::string& message) {
  std::fprintf(stderr, "quire_matmul_bench: %s\n", message.c_str());
  std::exit(2);
}

options parse(int argc, char** argv) {
  options o;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    if (i + 1 >= argc)
      stop(
          "usage: [--isa NAME] [--threads N] [--types A,B] [--rows 1,8] "
          "[--shapes 576x576] [--seconds S] [--model 0|1] [--wide ROWS] [--long VALUES]");
    const std::string value = argv[++i];
    if (flag == "--isa")
      o.isa = value;
    else if (flag == "--threads")
      o.threads = std::stoul(value);
    else if (flag == "--types")
      o.types = split(value);
    else if (flag == "--shapes")
      o.shapes = split(value);
    else if (flag == "--seconds")
      o.seconds = std::stod(value);
    else if (flag == "--model")
      o.model = value != "0";
    else if (flag == "--long")
      o.long_values = std::stol(value);
    else if (flag == "--wide")
      o.wide_rows = std::stoi(value);
    else if (flag == "--rows") {
      o.rows.clear();
      for (const auto& item : split(value)) o.rows.push_back(std::stoul(item));
    } else
      stop("unknown flag " + flag);
  }
  return o;
}

tensor_type type_named(const std::string& name) {
  for (const auto& traits : tensor_types())
    if (traits.name == name) return traits.type;
  stop("no tensor type " + name);
}

/// Random weights with scales that keep products finite.
packed_matrix random_matrix(const compute_context& context, tensor_type type, std::size_t rows,
                            std::size_t cols, std::uint32_t seed) {
  const auto& traits = traits_of(type);
  std::vector<std::byte> blocks(rows * cols / traits.block_values * traits.block_bytes);
  std::uint32_t state = seed * 2654435761u + 1u;
  for (std::byte& byte : blocks) {
    state = state * 1664525u + 1013904223u;
    byte = static_cast<std::byte>(state >> 24);
  }
  // Halves are at even offsets in all formats; clearing two exponent bits makes them small.
  if (traits.block_values == 1)
    for (std::size_t i = traits.block_bytes - 1; i < blocks.size(); i += traits.block_bytes)
      blocks[i] &= std::byte{0xbf};
  else
    for (std::size_t b = 0; b < blocks.size(); b += traits.block_bytes)
      for (const std::size_t at :
           {std::size_t{1}, std::size_t{3}, traits.block_bytes - 1, traits.block_bytes - 3})
        blocks[b + at] &= std::byte{0xaf};
  auto packed = packed_matrix::pack(context, type, blocks, rows, cols);
  if (!packed) stop(packed.error().message);
  return std::move(*packed);
}

std::vector<float> random_rows(std::size_t count) {
  std::vector<float> x(count);
  std::uint32_t state = 12345;
  for (float& v : x) {
    state = state * 1664525u + 1013904223u;
    v = static_cast<float>(static_cast<std::int32_t>(state)) * 0x1p-31f;
  }
  return x;
}

/// Compares up to two rows of the product with the scalar kernels'.
void check_answer(const compute_context& context, const packed_matrix& w) {
  const std::size_t rows = 2;
  const auto x = random_rows(rows * w.cols());
  std::vector<float> actual(rows * w.rows());
  std::vector<float> expected(actual.size());
  activations prepared;
  for (auto* out : {&actual, &expected}) {
    const compute_context with{out == &actual ? context.kernels : runnable_kernels().back(),
                               context.threads};
    prepared.prepare(with, x.data(), rows, w.cols(), w.cols());
    const matmul_target target{&w, out->data(), w.rows(), false};
    matmul(with, prepared, {&target, 1});
  }
  double difference = 0.0;
  double norm = 0.0;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    difference += std::pow(static_cast<double>(actual[i]) - static_cast<double>(expected[i]), 2);
    norm += std::pow(static_cast<double>(expected[i]), 2);
  }
  // A wide product rounds both operands to 8 bits: a relative error of 2^-8 each at most.
  const bool wide =
      uses_wide(*context.kernels->matmul, static_cast<std::size_t>(w.type()), rows, false);
  if (!(norm > 0.0) || !(difference <= (wide ? 0x1p-14 : 1e-9) * norm))
    stop("the answer is wrong for " + std::string(traits_of(w.type()).name));
}

/// Returns the median seconds of one call of body(i).
template <class Body>
double median_seconds(const arena& threads, double budget, Body&& body) {
  std::vector<double> times;
  std::size_t i = 0;
  body(i++);  // warm up
  const double begin = bench::bench_seconds(threads);
  do {
    const double start = bench::bench_seconds(threads);
    body(i++);
    times.push_back(bench::bench_seconds(threads) - start);
  } while (times.size() < 5 || bench::bench_seconds(threads) - begin < budget);
  std::nth_element(times.begin(), times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2),
                   times.end());
  return times[times.size() / 2];
}

void bench_shape(const compute_context& context, const options& o, const limits& limit,
                 tensor_type type, std::size_t outputs, std::size_t cols) {
  std::vector<packed_matrix> copies;
  copies.push_back(random_matrix(context, type, outputs, cols, 1));
  check_answer(context, copies.front());
  const std::size_t bytes = copies.front().size_bytes();
  const std::size_t wanted = std::clamp<std::size_t>((96u << 20) / bytes, 1, 256);
  while (copies.size() < wanted) copies.push_back(random_matrix(context, type, outputs, cols, 1));
  for (const std::size_t rows : o.rows) {
    const auto x = random_rows(rows * cols);
    std::vector<float> out(rows * outputs);
    activations prepared;
    const arena::hot awake(*context.threads);
    prepared.prepare(context, x.data(), rows, cols, cols);
    const double seconds = median_seconds(*context.threads, o.seconds, [&](std::size_t i) {
      const matmul_target target{&copies[i % copies.size()], out.data(), outputs, false};
      matmul(context, prepared, {&target, 1});
    });
    const double read = static_cast<double>(bytes) / seconds;
    const double macs = static_cast<double>(rows * outputs * cols) / seconds;
    std::printf("%-6s %6zux%-5zu %4zu rows %10.1f us %7.2f GB/s %4.0f %% %9.1f GMAC/s %4.0f %%\n",
                std::string(traits_of(type).name).c_str(), outputs, cols, rows, seconds * 1e6,
                read * 1e-9, 100.0 * read / limit.read_bytes, macs * 1e-9,
                100.0 * macs / limit.macs);
  }
}

/// All products of SmolLM2-135M: 30 layers and the output layer for one row in 16.
void bench_model(const compute_context& context, const options& o, const limits& limit,
                 tensor_type type) {
  constexpr std::size_t layers = 30;
  constexpr std::size_t dim = 576;
  constexpr std::size_t kv = 192;
  constexpr std::size_t hidden = 1536;
  struct layer {
    packed_matrix q, k, v, o, gate, up, down;
  };
  std::vector<layer> model;
  for (std::uint32_t i = 0; i < layers; ++i) {
    const auto make = [&](std::size_t outputs, std::size_t cols) {
      return random_matrix(context, type, outputs, cols, i);
    };
    model.push_back({make(dim, dim), make(kv, dim), make(kv, dim), make(dim, dim),
                     make(hidden, dim), make(hidden, dim), make(dim, hidden)});
  }
  double bytes = 0.0;
  double weights = 0.0;
  for (const layer& l : model)
    for (const packed_matrix* w : {&l.q, &l.k, &l.v, &l.o, &l.gate, &l.up, &l.down}) {
      bytes += static_cast<double>(w->size_bytes());
      weights += static_cast<double>(w->rows() * w->cols());
    }
  for (const std::size_t rows : o.rows) {
    const auto x = random_rows(rows * hidden);
    std::vector<float> a(rows * hidden);
    std::vector<float> b(rows * hidden);
    activations prepared;
    const arena::hot awake(*context.threads);
    const double seconds = median_seconds(*context.threads, 5 * o.seconds, [&](std::size_t) {
      for (const layer& l : model) {
        const matmul_target qkv[] = {{&l.q, a.data(), dim + 2 * kv, false},
                                     {&l.k, a.data() + dim, dim + 2 * kv, false},
                                     {&l.v, a.data() + dim + kv, dim + 2 * kv, false}};
        const matmul_target out[] = {{&l.o, a.data(), dim, false}};
        const matmul_target up[] = {{&l.gate, a.data(), hidden, false},
                                    {&l.up, b.data(), hidden, false}};
        const matmul_target down[] = {{&l.down, a.data(), dim, false}};
        prepared.prepare(context, x.data(), rows, dim, dim);
        matmul(context, prepared, qkv);
        prepared.prepare(context, x.data(), rows, dim, dim);
        matmul(context, prepared, out);
        prepared.prepare(context, x.data(), rows, dim, dim);
        matmul(context, prepared, up);
        prepared.prepare(context, x.data(), rows, hidden, hidden);
        matmul(context, prepared, down);
      }
    });
    const double macs = weights * static_cast<double>(rows) / seconds;
    std::printf(
        "%-6s 30 layers    %4zu rows %10.1f us %7.2f GB/s %4.0f %% %9.1f GMAC/s %4.0f %% "
        "%8.0f tok/s\n",
        std::string(traits_of(type).name).c_str(), rows, seconds * 1e6, bytes / seconds * 1e-9,
        100.0 * bytes / seconds / limit.read_bytes, macs * 1e-9, 100.0 * macs / limit.macs,
        static_cast<double>(rows) / seconds);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const options o = parse(argc, argv);
  const auto kernels = select_kernels(o.isa);
  if (!kernels) stop(kernels.error().message);
  arena threads(o.threads);
  matmul_kernels products = *(*kernels)->matmul;
  if (o.wide_rows >= 0) products.wide_rows.fill(static_cast<std::uint16_t>(o.wide_rows));
  if (o.long_values >= 0) products.long_values = static_cast<std::size_t>(o.long_values);
  kernel_table table = **kernels;
  table.matmul = &products;
  const compute_context context{&table, &threads};
  const auto peak = bench::dot_product_peak(threads, table.name);
  const limits limit{bench::stream_read_limit(threads), peak.macs_per_second};
  std::printf("isa %s, %zu threads; stream read %.1f GB/s, %s %.0f GMAC/s",
              std::string(table.name).c_str(), threads.num_threads(), limit.read_bytes * 1e-9,
              peak.instruction.c_str(), limit.macs * 1e-9);
  if (table.name == "amx")
    std::printf(", tdpbf16ps %.0f GMAC/s", bench::tile_peak(threads).macs_per_second * 1e-9);
  std::printf("\n");
  for (const auto& name : o.types) {
    if (o.model) bench_model(context, o, limit, type_named(name));
    for (const auto& shape : o.shapes) {
      const std::size_t cross = shape.find('x');
      if (cross == std::string::npos) stop("a shape is OUTPUTSxINPUTS");
      bench_shape(context, o, limit, type_named(name), std::stoul(shape.substr(0, cross)),
                  std::stoul(shape.substr(cross + 1)));
    }
  }
}
