// The integer kernels of attention over a block of positions, one step of an online softmax at a
// time. Expectations: the definition in double precision over the stored bytes. Tolerances: what
// rounding a weight to one or two bytes can lose of each key's code, all in the same direction, and
// rounding of f32.
#include <algorithm>
#include <cmath>
#include <vector>

#include "compute/attention_kernels.hpp"
#include "compute/context.hpp"
#include "compute/kernel_table.hpp"
#include "tests/compute/paged_sample.hpp"
#include "tests/support/catch.hpp"

using namespace quire;
using test::paged_sample;

namespace {

/// Memory as the kernels want it, in whole cache lines.
template <class T>
class aligned_room {
 public:
  explicit aligned_room(std::size_t n) : lines_(n * sizeof(T) / sizeof(line) + 1) {}
  T* data() { return lines_.data()->values; }
  const T* data() const { return lines_.data()->values; }

 private:
  struct alignas(64) line {
    T values[64 / sizeof(T)];
  };
  std::vector<line> lines_;
};

struct step {
  std::uint32_t begin;
  std::uint32_t end;
  std::size_t rows;
};

std::uint32_t block_begin(const step& of) {
  return of.begin - of.begin % static_cast<std::uint32_t>(packed_block);
}

/// Rows of scores, what they see, and what they have seen.
struct softmax_state {
  aligned_room<float> scores, out, maxima, sums, factors, shares;
  std::vector<std::uint32_t> low, high;

  softmax_state(paged_sample& sample, const step& of, std::size_t dim)
      : scores(of.rows * packed_block + score_slack),
        out(of.rows * dim),
        maxima(of.rows + 16),
        sums(of.rows + 16),
        factors(of.rows + 16),
        shares(of.rows + 16) {
    const std::uint32_t base = block_begin(of);
    for (std::size_t r = 0; r < of.rows; ++r) {
      // From weights that all count to one that covers all others, blocks that matter and that do
      // not.
      const float spread = static_cast<float>(r % 7);
      const auto s = sample.normal(packed_block + dim + 2);
      for (std::size_t i = 0; i < packed_block; ++i)
        scores.data()[r * packed_block + i] = spread * s[i];
      std::copy_n(s.begin() + packed_block, dim, out.data() + r * dim);
      const bool first = r % 5 == 0;
      maxima.data()[r] = first ? -INFINITY : 4 * s[packed_block + dim];
      sums.data()[r] = first ? 0 : 1 + 20 * std::fabs(s[packed_block + dim + 1]);
      if (first) std::fill_n(out.data() + r * dim, dim, 0.0f);
      low.push_back(of.begin - base + static_cast<std::uint32_t>(r % 3));
      high.push_back(std::max(low.back(), of.end - base - static_cast<std::uint32_t>(r % 4)));
    }
  }
};

void check_step(const attention_kernels& kernels, paged_sample& sample, const step& of) {
  const kv_layout& layout = sample.layout;
  const packed_kernels& packed = *kernels.packed;
  const std::size_t dim = padded_dim(layout.head_dim);
  const std::size_t blocks = dim / kv_block_values;
  const paged_rows rows{.pages = sample.pages.data(),
                        .page_bytes = layout.page_bytes,
                        .table = sample.tables[0].data(),
                        .page_tokens = layout.page_tokens,
                        .head_dim = layout.head_dim,
                        .offset_k = layout.rows_offset(0, kv_part::key, 0),
                        .offset_v = layout.rows_offset(0, kv_part::value, 0),
                        .row_bytes_k = layout.row_bytes_k,
                        .row_bytes_v = layout.row_bytes_v};
  aligned_room<std::int8_t> codes(packed_block * dim);
  aligned_room<float> scales(packed_block * blocks), units(blocks + 16);
  const packed_values values{codes.data(), scales.data(), units.data()};
  const auto type = static_cast<std::size_t>(layout.type_v);
  packed.pack_values[type](rows, of.begin, of.end, values, nullptr, 0);

  softmax_state state(sample, of, dim);
  const softmax_state old = state;
  const std::uint32_t base = block_begin(of);
  const std::size_t columns =
      (of.end - base + transpose_rows - 1) / transpose_rows * transpose_rows;
  packed.softmax_rows(state.scores.data(), packed_block, of.rows, columns, state.low.data(),
                      state.high.data(), state.maxima.data(), state.sums.data(),
                      state.factors.data(), state.shares.data());
  packed.weigh(state.scores.data(), state.factors.data(), state.shares.data(), state.sums.data(),
               of.rows, values, dim, columns, state.out.data());

  for (std::size_t r = 0; r < of.rows; ++r) {
    INFO("row " << r);
    const float* scores = old.scores.data() + r * packed_block;
    double here = -INFINITY;
    for (std::uint32_t i = old.low[r]; i < old.high[r]; ++i)
      here = std::max(here, static_cast<double>(scores[i]));
    const double past = static_cast<double>(old.maxima.data()[r]);
    const double most = std::max(here, past);
    REQUIRE(static_cast<double>(state.maxima.data()[r]) == most);
    if (most == -INFINITY) continue;
    const double factor = std::exp2(past - most);
    double sum = static_cast<double>(old.sums.data()[r]) * factor;
    for (std::uint32_t i = old.low[r]; i < old.high[r]; ++i)
      sum += std::exp2(static_cast<double>(scores[i]) - most);
    REQUIRE(static_cast<double>(state.sums.data()[r]) == Approx(sum).epsilon(1e-5));
    const double share = std::exp2(here - most);
    const double steps = share > 1.001 * sum / 8 ? 255.0 * 256.0 : 255.0;
    for (std::uint32_t d = 0; d < layout.head_dim; ++d) {
      double expected = factor * static_cast<double>(old.out.data()[r * dim + d]);
      double allowed = 1e-5 * std::fabs(expected);
      double largest_scale = 0;
      for (std::uint32_t p = of.begin; p < of.end; ++p)
        largest_scale = std::max(largest_scale, sample.stored_scale(kv_part::value, 0, p, 0, d));
      for (std::uint32_t i = old.low[r]; i < old.high[r]; ++i) {
        const double value = sample.stored(kv_part::value, 0, base + i, 0, d);
        const double scale = sample.stored_scale(kv_part::value, 0, base + i, 0, d);
        const double weighed = std::exp2(static_cast<double>(scores[i]) - most) * value;
        expected += weighed;
        allowed += 1e-5 * std::fabs(weighed);
        // Half a step of the largest weight times the largest scale, as often as the code says.
        if (scale > 0) allowed += share * largest_scale / steps / 2 * std::fabs(value / scale);
      }
      REQUIRE(std::fabs(static_cast<double>(state.out.data()[r * dim + d]) - expected) <=
              allowed + 1e-6);
    }
  }
}

}  // namespace

TEST_CASE("a step over packed values loses what its rounding may lose, and no more", "[compute]") {
  arena threads(1);
  for (const kernel_table* kernels : runnable_kernels()) {
    if (kernels->attention->packed == nullptr) continue;
    for (const kv_type type : {kv_type::q8, kv_type::q4})
      for (const std::uint32_t head_dim : {32u, 64u, 80u, 96u}) {
        INFO(isa_name(*kernels) << ' ' << kv_type_name(type) << ", dim " << head_dim);
        const auto layout = kv_layout::make(1, 1, head_dim, 16, type, type).value();
        paged_sample sample(layout, 0, 1, {{256, 1}}, head_dim);
        sample.store_history({kernels, &threads});
        for (const step& of : {step{0, 64, 1}, step{64, 128, 11}, step{128, 192, 150},
                               step{64, 101, 18}, step{70, 128, 7}, step{195, 197, 33}})
          check_step(*kernels->attention, sample, of);
      }
  }
}
