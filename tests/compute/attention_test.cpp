// Expectations: attention by its definition in double precision over the stored bytes, see
// paged_sample.hpp. Tolerance: sums of some hundred products of f32 values of size 1 carry an error
// of about 1e-6 in the scores and as much in the outputs; 2e-5 leaves room for the longest. Kernels
// with integer products round queries (the oracle does so too) and weights, to 2^-17 of a block's
// largest: with values up to 4 that is 3e-5 a key, in either direction; 3e-4 is ten of them.
#include "compute/ops/attention.hpp"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <string>
#include <vector>

#include "compute/attention_kernels.hpp"
#include "compute/context.hpp"
#include "compute/kernel_table.hpp"
#include "compute/ops/shared_prefix.hpp"
#include "tests/compute/paged_sample.hpp"
#include "tests/support/catch.hpp"

using namespace quire;
using test::paged_sample;

namespace {

constexpr double tolerance = 2e-5;
constexpr double packed_tolerance = 3e-4;

const packed_kernels* packed_of(const compute_context& context) {
  return context.kernels->attention->packed;
}

double tolerance_of(const compute_context& context, kv_type type_v) {
  const packed_kernels* packed = packed_of(context);
  return packed != nullptr && packed->pack_values[static_cast<std::size_t>(type_v)] != nullptr
             ? packed_tolerance
             : tolerance;
}

struct step_input {
  std::vector<float> q;
  std::vector<float> k;
  std::vector<float> v;
};

step_input random_input(paged_sample& sample) {
  const std::size_t dim = sample.layout.head_dim;
  return {sample.normal(sample.num_rows * sample.num_heads() * dim),
          sample.normal(sample.num_rows * sample.layout.kv_heads * dim),
          sample.normal(sample.num_rows * sample.layout.kv_heads * dim)};
}

std::vector<float> attend(const compute_context& context, paged_sample& sample,
                          const step_input& input, std::uint32_t window, float scale) {
  const std::size_t width = std::size_t{sample.num_heads()} * sample.layout.head_dim;
  std::vector<float> out(sample.num_rows * width, NAN);
  attention(context, {.kv = sample.kv(),
                      .sequences = sample.sequences,
                      .q = input.q.data(),
                      .q_stride = width,
                      .out = out.data(),
                      .out_stride = width,
                      .num_heads = sample.num_heads(),
                      .scale = scale,
                      .window = window});
  return out;
}

std::vector<float> run_step(const compute_context& context, paged_sample& sample,
                            const step_input& input, std::uint32_t window, float scale) {
  store_kv(context, sample.kv(), sample.sequences, input.k.data(), input.v.data(),
           std::size_t{sample.layout.kv_heads} * sample.layout.head_dim);
  return attend(context, sample, input, window, scale);
}

// The largest error over all rows and heads, or over every `stride`th row of long steps.
double worst_error(const compute_context& context, const paged_sample& sample,
                   const step_input& input, const std::vector<float>& out, std::uint32_t window,
                   float scale, std::uint32_t stride = 1) {
  const auto type_k = static_cast<std::size_t>(sample.layout.type_k);
  const packed_kernels* packed = packed_of(context);
  const auto type_v = static_cast<std::size_t>(sample.layout.type_v);
  const bool keys_packed = packed != nullptr && packed->pack_keys[type_k] != nullptr;
  const bool both_packed = keys_packed && packed->pack_values[type_v] != nullptr;
  double worst = 0;
  const std::size_t dim = sample.layout.head_dim;
  for (std::uint32_t s = 0; s < sample.sequences.size(); ++s)
    for (std::uint32_t t = 0; t < sample.sequences[s].num_tokens; t += stride)
      for (std::uint32_t h = 0; h < sample.num_heads(); ++h) {
        const std::size_t at = ((sample.sequences[s].first_row + t) * sample.num_heads() + h) * dim;
        // A lone token is read in place unless both parts have integer products.
        const bool rounded = sample.sequences[s].num_tokens > 1 ? keys_packed : both_packed;
        const std::vector<float> q =
            rounded ? sample.rounded_query(input.q.data() + at, scale)
                    : std::vector<float>(input.q.data() + at, input.q.data() + at + dim);
        const auto expected =
            sample.expected(s, t, h, q.data(), static_cast<double>(scale), window);
        for (std::size_t d = 0; d < dim; ++d) {
          const double error = std::fabs(static_cast<double>(out[at + d]) - expected[d]);
          if (!(error <= worst)) worst = error;  // keeps NaN
        }
      }
  return worst;
}

constexpr kv_type all_types[] = {kv_type::f32, kv_type::f16, kv_type::q8, kv_type::q4};

}  // namespace

TEST_CASE("attention over every pair of types equals the definition", "[compute]") {
  arena threads(2);
  for (const kernel_table* kernels : runnable_kernels()) {
    const compute_context context{kernels, &threads};
    INFO(isa_name(*kernels));
    unsigned seed = 1;
    for (const auto type_k : all_types)
      for (const auto type_v : all_types) {
        INFO(kv_type_name(type_k) << " keys, " << kv_type_name(type_v) << " values");
        const auto layout = kv_layout::make(2, 2, 64, 16, type_k, type_v).value();
        paged_sample sample(layout, 1, 3, {{0, 1}, {37, 1}, {200, 1}, {0, 50}, {21, 33}}, ++seed);
        sample.store_history(context);
        const auto input = random_input(sample);
        const auto out = run_step(context, sample, input, 0, 0.125f);
        REQUIRE(worst_error(context, sample, input, out, 0, 0.125f) <
                tolerance_of(context, type_v));
      }
  }
}

TEST_CASE("attention of any shape, page size and window equals the definition", "[compute]") {
  struct shape {
    std::uint32_t kv_heads, heads_per_kv, head_dim, page_tokens, window;
  };
  const shape shapes[] = {{1, 4, 256, 16, 100}, {3, 3, 64, 16, 17},  {2, 1, 8, 16, 0},
                          {1, 9, 40, 16, 0},    {2, 2, 72, 5, 30},   {1, 7, 128, 32, 64},
                          {2, 5, 96, 1, 3},     {1, 2, 24, 16, 1},   {1, 8, 80, 24, 4096},
                          {1, 40, 48, 16, 50},  {1, 130, 16, 16, 0}, {1, 6, 12, 16, 20}};
  arena threads(3);
  for (const kernel_table* kernels : runnable_kernels()) {
    const compute_context context{kernels, &threads};
    INFO(isa_name(*kernels));
    unsigned seed = 100;
    for (const auto& s : shapes)
      for (const auto type : all_types) {
        ++seed;
        INFO("kv heads " << s.kv_heads << ", heads per kv " << s.heads_per_kv << ", dim "
                         << s.head_dim << ", page " << s.page_tokens << ", window " << s.window
                         << ", type " << kv_type_name(type));
        const auto layout =
            kv_layout::make(1, s.kv_heads, s.head_dim, s.page_tokens, type, type).value();
        paged_sample sample(layout, 0, s.heads_per_kv, {{63, 1}, {150, 1}, {5, 70}, {129, 2}},
                            seed);
        sample.store_history(context);
        const auto input = random_input(sample);
        const auto scale = static_cast<float>(1.0 / std::sqrt(s.head_dim));
        const auto out = run_step(context, sample, input, s.window, scale);
        REQUIRE(worst_error(context, sample, input, out, s.window, scale) <
                tolerance_of(context, type));
      }
  }
}

TEST_CASE("long contexts, split in chunks, equal the definition", "[compute]") {
  arena threads(2);
  for (const kernel_table* kernels : runnable_kernels()) {
    const compute_context context{kernels, &threads};
    INFO(isa_name(*kernels));
    for (const std::uint32_t window : {0u, 300u, 1500u}) {
      INFO("window " << window);
      const auto layout = kv_layout::make(1, 1, 64, 16, kv_type::q8, kv_type::f16).value();
      paged_sample sample(layout, 0, 3, {{1500, 1}, {2040, 70}, {2047, 1}, {1024, 1}}, 7 + window);
      sample.store_history(context);
      const auto input = random_input(sample);
      const auto out = run_step(context, sample, input, window, 0.3f);
      REQUIRE(worst_error(context, sample, input, out, window, 0.3f, 9) < tolerance);
    }
  }
}

TEST_CASE("large scores neither overflow nor fade", "[compute]") {
  arena threads(1);
  for (const kernel_table* kernels : runnable_kernels()) {
    const compute_context context{kernels, &threads};
    INFO(isa_name(*kernels));
    const auto layout = kv_layout::make(1, 1, 32, 16, kv_type::f32, kv_type::f32).value();
    paged_sample sample(layout, 0, 2, {{150, 1}, {10, 80}}, 5);
    sample.store_history(context);
    const auto input = random_input(sample);
    const float scale = 100.0f;  // scores of several thousand: one key takes all
    const auto out = run_step(context, sample, input, 0, scale);
    // A score of 2,000 has an ulp of 1e-4, which is then the relative error of a weight.
    REQUIRE(worst_error(context, sample, input, out, 0, scale) < 5e-3);
  }
}

TEST_CASE("a query that is no number harms no other row", "[compute]") {
  arena threads(2);
  for (const kernel_table* kernels : runnable_kernels()) {
    const compute_context context{kernels, &threads};
    INFO(isa_name(*kernels));
    for (const kv_type type : all_types) {
      INFO(kv_type_name(type));
      const auto layout = kv_layout::make(1, 2, 64, 16, type, type).value();
      paged_sample sample(layout, 0, 3, {{150, 1}, {63, 1}, {5, 40}, {70, 30}}, 11);
      sample.store_history(context);
      auto input = random_input(sample);
      const auto expected = run_step(context, sample, input, 0, 0.125f);
      // Of a lone token and of a prompt: all of the row, or every other value, or one.
      const std::size_t row = std::size_t{sample.num_heads()} * layout.head_dim;
      const std::size_t bad_rows[] = {0, sample.sequences[3].first_row};
      for (const std::size_t step : {std::size_t{1}, std::size_t{2}, row}) {
        auto bad = input;
        for (const std::size_t r : bad_rows)
          for (std::size_t i = 0; i < row; i += step)
            bad.q[r * row + i] = i % 4 == 0 ? NAN : INFINITY;
        const auto out = attend(context, sample, bad, 0, 0.125f);
        for (std::size_t r = 0; r < sample.num_rows; ++r) {
          if (std::find(std::begin(bad_rows), std::end(bad_rows), r) != std::end(bad_rows))
            continue;
          INFO("row " << r << " beside rows with every " << step << "th value no number");
          const auto at = static_cast<std::ptrdiff_t>(r * row);
          REQUIRE(std::equal(out.begin() + at, out.begin() + at + static_cast<std::ptrdiff_t>(row),
                             expected.begin() + at));
        }
      }
    }
  }
}

TEST_CASE("a result depends neither on the batch nor on the number of threads", "[compute]") {
  arena one(1);
  arena many(4);
  const std::vector<paged_sample::length> lengths{{700, 1}, {0, 90}, {33, 1}, {1100, 40}, {12, 5}};
  for (const kernel_table* kernels : runnable_kernels()) {
    INFO(isa_name(*kernels));
    const auto layout = kv_layout::make(1, 2, 64, 16, kv_type::q8, kv_type::q4).value();
    paged_sample sample(layout, 0, 3, lengths, 3);
    const compute_context serial{kernels, &one};
    const compute_context parallel{kernels, &many};
    sample.store_history(serial);
    const auto input = random_input(sample);
    const auto alone = run_step(serial, sample, input, 0, 0.125f);
    REQUIRE(run_step(parallel, sample, input, 0, 0.125f) == alone);

    const auto all = sample.sequences;
    for (const auto& sequence : all) {
      sample.sequences = {sequence};
      const auto out = attend(parallel, sample, input, 0, 0.125f);
      const std::size_t width = sample.num_heads() * 64;
      const auto begin = static_cast<std::ptrdiff_t>(sequence.first_row * width);
      const auto end = begin + static_cast<std::ptrdiff_t>(sequence.num_tokens * width);
      REQUIRE(std::equal(out.begin() + begin, out.begin() + end, alone.begin() + begin));
    }
  }
}

TEST_CASE("a prompt in chunks gives the values of the prompt at once", "[compute]") {
  arena threads(2);
  constexpr std::uint32_t tokens = 230;
  for (const kernel_table* kernels : runnable_kernels()) {
    // Without it a lone token may go another way, and rounding of values depends on the block.
    const compute_context context{kernels, &threads, true};
    INFO(isa_name(*kernels));
    for (const std::uint32_t window : {0u, 70u}) {
      const auto layout = kv_layout::make(1, 2, 64, 16, kv_type::q8, kv_type::q8).value();
      paged_sample sample(layout, 0, 3, {{0, tokens}}, 11);
      const auto input = random_input(sample);
      const auto whole = run_step(context, sample, input, window, 0.125f);
      std::fill(sample.pages.begin(), sample.pages.end(), std::byte{0xff});
      std::vector<float> pieces(whole.size());
      const std::size_t width = sample.num_heads() * 64;
      std::uint32_t done = 0;
      for (const std::uint32_t share : {64u, 1u, 18u, 97u, 50u}) {
        sample.sequences = {{sample.tables[0], done, share, done}};
        const auto out = run_step(context, sample, input, window, 0.125f);
        std::copy_n(out.begin() + static_cast<std::ptrdiff_t>(done * width), share * width,
                    pieces.begin() + static_cast<std::ptrdiff_t>(done * width));
        done += share;
      }
      REQUIRE(done == tokens);
      REQUIRE(pieces == whole);
    }
  }
}

TEST_CASE("batch-invariant attention gives a lone token the bits of the prompt at once",
          "[compute]") {
  arena threads(2);
  constexpr std::uint32_t tokens = 1100;
  for (const kernel_table* kernels : runnable_kernels()) {
    const compute_context context{kernels, &threads, true};
    INFO(isa_name(*kernels));
    for (const std::uint32_t window : {0u, 70u, 1030u}) {
      const auto layout = kv_layout::make(1, 2, 64, 16, kv_type::q8, kv_type::q4).value();
      paged_sample sample(layout, 0, 3, {{0, tokens}}, 12);
      const auto input = random_input(sample);
      const auto whole = run_step(context, sample, input, window, 0.125f);
      const std::size_t width = sample.num_heads() * 64;
      for (const std::uint32_t own : {0u, 1u, 63u, 64u, 500u, 1023u, 1024u, 1025u, tokens - 1}) {
        sample.sequences = {{sample.tables[0], own, 1, own}};
        const auto alone = run_step(context, sample, input, window, 0.125f);
        const auto begin = static_cast<std::ptrdiff_t>(own * width);
        const auto end = begin + static_cast<std::ptrdiff_t>(width);
        REQUIRE(std::equal(alone.begin() + begin, alone.begin() + end, whole.begin() + begin));
      }
    }
  }
}

TEST_CASE("a prefix that sequences share is read once and changes nothing", "[compute]") {
  arena threads(3);
  for (const kernel_table* kernels : runnable_kernels())
    for (const kv_type type : all_types)
      for (const std::uint32_t window : {0u, 150u, 500u}) {
        const compute_context context{kernels, &threads};
        INFO(isa_name(*kernels) << " " << kv_type_name(type) << ", window " << window);
        const auto layout = kv_layout::make(1, 2, 64, 16, type, type).value();
        std::vector<paged_sample::length> lengths;
        for (std::uint32_t i = 0; i < 50; ++i) lengths.push_back({330 + 7 * (i % 13), 1});
        lengths.push_back({340, 6});
        paged_sample sample(layout, 0, 3, lengths, 40 + window);
        sample.store_history(context);
        // All share 64 positions, every second one 192 more, the last of them all but their own
        // page.
        for (std::size_t s = 1; s < sample.tables.size(); ++s) {
          const std::size_t pages = s > 46 ? 20 : s % 2 == 0 ? 16 : 5;
          std::copy_n(sample.tables[0].begin(), pages, sample.tables[s].begin());
          sample.sequences[s].table = sample.tables[s];
        }
        const auto input = random_input(sample);
        store_kv(context, sample.kv(), sample.sequences, input.k.data(), input.v.data(), 128);
        prefix_sharing sharing;
        sharing.find(sample.sequences, 16);
        REQUIRE(sharing.runs().size() >= 3);
        REQUIRE(sharing.runs().front().num_members == 50);
        REQUIRE(sharing.runs().front().end == 64);
        REQUIRE(sharing.private_begin(0) == 320);
        REQUIRE(sharing.private_begin(1) == 64);
        REQUIRE(sharing.private_begin(50) == 0);
        const std::size_t width = sample.num_heads() * 64;
        std::vector<float> out(sample.num_rows * width, NAN);
        attention(context, {.kv = sample.kv(),
                            .sequences = sample.sequences,
                            .q = input.q.data(),
                            .q_stride = width,
                            .out = out.data(),
                            .out_stride = width,
                            .num_heads = sample.num_heads(),
                            .scale = 0.125f,
                            .sharing = &sharing,
                            .window = window});
        REQUIRE(worst_error(context, sample, input, out, window, 0.125f) <
                tolerance_of(context, type));
      }
}

TEST_CASE("every kernel table that runs here carries attention of its own", "[compute]") {
  for (const kernel_table* kernels : runnable_kernels()) {
    // A forced ISA must be the one that runs: the sums of different vector widths differ somewhere.
    arena threads(1);
    const auto layout = kv_layout::make(1, 1, 256, 16, kv_type::f32, kv_type::f32).value();
    paged_sample sample(layout, 0, 4, {{500, 1}}, 17);
    const compute_context context{kernels, &threads};
    sample.store_history(context);
    const auto input = random_input(sample);
    const auto own = run_step(context, sample, input, 0, 0.0625f);
    for (const kernel_table* other : runnable_kernels())
      if (other->attention != kernels->attention)
        REQUIRE(run_step({other, &threads}, sample, input, 0, 0.0625f) != own);
  }
}
