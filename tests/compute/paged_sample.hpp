// Pages of random sequences for attention tests, and an attention in double precision that shares
// no code with the product: it reads the stored bytes by the formats' definition.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <span>
#include <vector>

#include "compute/kv_layout.hpp"
#include "compute/ops/attention.hpp"
#include "core/ids.hpp"

namespace quire::test {

/// Reads value d of an encoded row by the definition in kv_layout.hpp.
inline double stored_value(kv_type type, std::uint32_t head_dim, const std::byte* row,
                           std::uint32_t d) {
  const std::uint32_t blocks = (head_dim + 31) / 32;
  const auto byte_at = [&](std::size_t i) { return static_cast<std::uint8_t>(row[i]); };
  const auto scale = [&]() -> double {
    const std::uint32_t bits = byte_at(2 * (d / 32)) | byte_at(2 * (d / 32) + 1) << 8;
    return static_cast<double>(std::bit_cast<float>(bits << 15));
  };
  if (type == kv_type::f32) {
    float value = 0;
    std::memcpy(&value, row + 4 * d, 4);
    return static_cast<double>(value);
  }
  if (type == kv_type::f16) {
    _Float16 value = 0;
    std::memcpy(&value, row + 2 * d, 2);
    return static_cast<double>(value);
  }
  if (type == kv_type::q8) return scale() * static_cast<std::int8_t>(byte_at(2 * blocks + d));
  const std::uint32_t within = d % 32;
  const unsigned byte = byte_at(2 * blocks + 16 * (d / 32) + within % 16);
  const int nibble = static_cast<int>(within < 16 ? byte & 15u : byte >> 4);
  return scale() * (nibble < 8 ? nibble : nibble - 16);
}

/// A batch of sequences over shuffled pages that hold poison wherever nothing is stored.
struct paged_sample {
  kv_layout layout;
  std::uint32_t layer = 0;
  std::uint32_t heads_per_kv = 1;
  std::vector<std::byte> pages;
  std::vector<std::vector<page_id>> tables;
  std::vector<attention_sequence> sequences;
  std::uint32_t num_rows = 0;
  std::mt19937 random;

  struct length {
    std::uint32_t stored;
    std::uint32_t added;
  };

  paged_sample(const kv_layout& of, std::uint32_t of_layer, std::uint32_t group,
               const std::vector<length>& lengths, unsigned seed)
      : layout(of), layer(of_layer), heads_per_kv(group), random(seed) {
    std::vector<std::uint32_t> need;
    std::uint32_t total = 0;
    for (const auto& l : lengths) {
      need.push_back((l.stored + l.added + layout.page_tokens - 1) / layout.page_tokens);
      total += need.back();
    }
    std::vector<page_id> ids;
    for (std::uint32_t i = 0; i < total + 3; ++i) ids.push_back(page_id{i});
    std::shuffle(ids.begin(), ids.end(), random);
    pages.assign(ids.size() * layout.page_bytes, std::byte{0xff});  // NaN in every type
    for (const auto n : need) {
      tables.emplace_back(ids.end() - n, ids.end());
      ids.resize(ids.size() - n);
    }
    for (std::size_t s = 0; s < lengths.size(); ++s) {
      sequences.push_back({tables[s], lengths[s].stored, lengths[s].added, num_rows});
      num_rows += lengths[s].added;
    }
  }

  std::uint32_t num_heads() const { return layout.kv_heads * heads_per_kv; }
  paged_kv kv() { return {pages.data(), &layout, layer}; }

  std::vector<float> normal(std::size_t n) {
    std::normal_distribution<float> distribution(0.0f, 1.0f);
    std::vector<float> values(n);
    for (auto& v : values) v = distribution(random);
    return values;
  }

  /// Stores random keys and values at all positions before the step's.
  void store_history(const compute_context& context) {
    for (const auto& sequence : sequences) {
      if (sequence.first_position == 0) continue;
      const std::size_t width = std::size_t{layout.kv_heads} * layout.head_dim;
      const auto k = normal(sequence.first_position * width);
      const auto v = normal(sequence.first_position * width);
      const attention_sequence past{sequence.table, 0, sequence.first_position, 0};
      store_kv(context, kv(), std::span(&past, 1), k.data(), v.data(), width);
    }
  }

  double stored(kv_part part, std::uint32_t sequence, std::uint32_t position, std::uint32_t head,
                std::uint32_t d) const {
    const std::size_t page = to_index(tables[sequence][position / layout.page_tokens]);
    const std::byte* row = pages.data() + page * layout.page_bytes +
                           layout.rows_offset(layer, part, head) +
                           position % layout.page_tokens * layout.row_bytes(part);
    return stored_value(layout.type(part), layout.head_dim, row, d);
  }

  /// Returns a query as integer products see it: scaled for exponentials to base 2, per 32 values
  /// rounded to 1/127 of the largest, and scaled back.
  std::vector<float> rounded_query(const float* q, float scale) const {
    std::vector<float> out(q, q + layout.head_dim);
    const float factor = scale * 1.44269504088896341f;
    for (std::uint32_t first = 0; first < layout.head_dim; first += 32) {
      const std::uint32_t last = std::min(layout.head_dim, first + 32);
      float most = 0;
      for (std::uint32_t d = first; d < last; ++d) most = std::max(most, std::fabs(q[d] * factor));
      for (std::uint32_t d = first; d < last; ++d)
        out[d] = std::nearbyint(q[d] * factor * (127.0f / most)) * (most / 127.0f) / factor;
    }
    return out;
  }

  /// Returns softmax(scale q k) v of one new token and query head, straight from the definition.
  std::vector<double> expected(std::uint32_t sequence, std::uint32_t token, std::uint32_t head,
                               const float* q, double scale, std::uint32_t window) const {
    const std::uint32_t own = sequences[sequence].first_position + token;
    const std::uint32_t first = window != 0 && own + 1 > window ? own + 1 - window : 0;
    const std::uint32_t kv_head = head / heads_per_kv;
    std::vector<double> scores;
    double most = -INFINITY;
    for (std::uint32_t p = first; p <= own; ++p) {
      double dot = 0;
      for (std::uint32_t d = 0; d < layout.head_dim; ++d)
        dot += static_cast<double>(q[d]) * stored(kv_part::key, sequence, p, kv_head, d);
      scores.push_back(dot * scale);
      most = std::max(most, scores.back());
    }
    double sum = 0;
    std::vector<double> out(layout.head_dim, 0.0);
    for (std::uint32_t p = first; p <= own; ++p) {
      const double weight = std::exp(scores[p - first] - most);
      sum += weight;
      for (std::uint32_t d = 0; d < layout.head_dim; ++d)
        out[d] += weight * stored(kv_part::value, sequence, p, kv_head, d);
    }
    for (auto& value : out) value /= sum;
    return out;
  }
};

}  // namespace quire::test
