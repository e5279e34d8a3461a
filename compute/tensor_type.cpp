#include "compute/tensor_type.hpp"

#include <algorithm>
#include <array>

#include "core/check.hpp"

namespace quire {

namespace {

using enum tensor_type;

constexpr std::array<tensor_type_traits, 15> table{{
    {f32, "F32", 1, 4, true},
    {f16, "F16", 1, 2, true},
    {q4_0, "Q4_0", 32, 18, true},
    {q4_1, "Q4_1", 32, 20, true},
    {q5_0, "Q5_0", 32, 22, true},
    {q5_1, "Q5_1", 32, 24, true},
    {q8_0, "Q8_0", 32, 34, true},
    {q2_k, "Q2_K", 256, 84, true},
    {q3_k, "Q3_K", 256, 110, true},
    {q4_k, "Q4_K", 256, 144, true},
    {q5_k, "Q5_K", 256, 176, true},
    {q6_k, "Q6_K", 256, 210, true},
    {iq4_nl, "IQ4_NL", 32, 18, true},
    {iq4_xs, "IQ4_XS", 256, 136, true},
    {bf16, "BF16", 1, 2, true},
}};

}  // namespace

const tensor_type_traits* find_tensor_type(std::uint32_t number) noexcept {
  const auto it = std::ranges::find_if(table, [number](const tensor_type_traits& t) {
    return static_cast<std::uint32_t>(t.type) == number;
  });
  return it == table.end() ? nullptr : &*it;
}

const tensor_type_traits& traits_of(tensor_type type) noexcept {
  const auto* traits = find_tensor_type(static_cast<std::uint32_t>(type));
  QUIRE_CHECK(traits != nullptr, "a tensor type outside the enumeration");
  return *traits;
}

std::span<const tensor_type_traits> tensor_types() noexcept {
  return table;
}

}  // namespace quire
