#include "compute/kv_layout.hpp"

#include <array>
#include <string>

namespace quire {
namespace {

constexpr std::array<std::string_view, num_kv_types> names{"f32", "f16", "q8", "q4"};
constexpr std::size_t page_alignment = 64;
constexpr std::size_t scale_bytes = 2;

std::string describe(const kv_layout& layout) {
  return std::to_string(layout.layers) + " layers x " + std::to_string(layout.kv_heads) +
         " kv heads x " + std::to_string(layout.page_tokens) + " tokens x " +
         std::to_string(layout.head_dim) + " values";
}

// Multiplies into `product`; false when it overflows.
bool grow(std::size_t& product, std::size_t factor) noexcept {
  return !__builtin_mul_overflow(product, factor, &product);
}

}  // namespace

std::string_view kv_type_name(kv_type type) noexcept {
  return names[static_cast<std::size_t>(type)];
}

std::optional<kv_type> parse_kv_type(std::string_view name) noexcept {
  for (std::size_t i = 0; i < names.size(); ++i)
    if (names[i] == name) return static_cast<kv_type>(i);
  return std::nullopt;
}

std::optional<kv_types> parse_kv_types(std::string_view text) noexcept {
  const std::size_t slash = text.find('/');
  const auto k = parse_kv_type(text.substr(0, slash));
  if (!k) return std::nullopt;
  if (slash == std::string_view::npos) return kv_types{*k == kv_type::q4 ? kv_type::q8 : *k, *k};
  const auto v = parse_kv_type(text.substr(slash + 1));
  if (!v) return std::nullopt;
  return kv_types{*k, *v};
}

std::string kv_types_name(kv_types types) {
  const std::string_view v = kv_type_name(types.v);
  if (parse_kv_types(v) == types) return std::string(v);
  std::string both(kv_type_name(types.k));
  both += '/';
  both += v;
  return both;
}

std::size_t kv_row_bytes(kv_type type, std::size_t head_dim) noexcept {
  const std::size_t blocks = head_dim / kv_block_values + (head_dim % kv_block_values != 0);
  switch (type) {
    case kv_type::f32:
      return head_dim * sizeof(float);
    case kv_type::f16:
      return head_dim * 2;
    case kv_type::q8:
      return blocks * (scale_bytes + kv_block_values);
    case kv_type::q4:
      return blocks * (scale_bytes + kv_block_values / 2);
  }
  return 0;
}

result<kv_layout> kv_layout::make(std::uint32_t layers, std::uint32_t kv_heads,
                                  std::uint32_t head_dim, std::uint32_t page_tokens, kv_type type_k,
                                  kv_type type_v) {
  kv_layout layout{.layers = layers,
                   .kv_heads = kv_heads,
                   .head_dim = head_dim,
                   .page_tokens = page_tokens,
                   .type_k = type_k,
                   .type_v = type_v,
                   .row_bytes_k = kv_row_bytes(type_k, head_dim),
                   .row_bytes_v = kv_row_bytes(type_v, head_dim)};
  if (layers == 0 || kv_heads == 0 || head_dim == 0 || page_tokens == 0)
    return fail(errc::invalid_argument,
                "KV layout: layers, kv heads, head_dim and page_tokens must "
                "be at least 1, not " +
                    describe(layout));
  std::size_t rows = layers;
  std::size_t bytes = layout.row_bytes_k + layout.row_bytes_v;
  std::size_t f32_bytes = 2 * sizeof(float);
  if (!grow(rows, kv_heads) || !grow(rows, page_tokens) || !grow(bytes, rows) ||
      !grow(f32_bytes, rows) || !grow(f32_bytes, head_dim) ||
      __builtin_add_overflow(bytes, page_alignment - 1, &bytes))
    return fail(errc::invalid_argument, "KV layout: a page of " + describe(layout) +
                                            " does not fit the address space; use fewer tokens per "
                                            "page");
  layout.page_bytes = bytes / page_alignment * page_alignment;
  return layout;
}

}  // namespace quire
