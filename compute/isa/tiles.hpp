// A thin wrapper of the AMX tile registers, with a backend in plain C++, so that the same kernels
// run, slowly, where the hardware is missing.
//
// Both backends have the same static members; tile numbers are template arguments. A tile is up to
// 16 rows of up to 64 bytes; its shape comes from the configuration that was loaded last on the
// thread. Whoever uses hardware_tiles has made sure that missing_amx() is empty
// (compute/cpu_features.hpp).
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace quire {

/// The operand of ldtilecfg, palette 1: 8 tiles. Source: Intel's architecture manual, volume
/// 1, 18.2.
struct alignas(64) tile_config {
  std::uint8_t palette = 1;
  std::uint8_t start_row = 0;
  std::array<std::uint8_t, 14> reserved{};
  std::array<std::uint16_t, 16> row_bytes{};  ///< "colsb": bytes per row of each tile
  std::array<std::uint8_t, 16> rows{};
};
static_assert(sizeof(tile_config) == 64);
static_assert(offsetof(tile_config, row_bytes) == 16 && offsetof(tile_config, rows) == 48);

/// The tiles of the processor. The instructions are written out, because g++ 12's intrinsics do not
/// say that they read and write memory.
struct hardware_tiles {
  /// Makes `config` the current one of this thread, unless it already is; all tiles become zero
  /// then.
  static void configure(const tile_config& config) noexcept {
    if (loaded == &config) return;
    asm volatile("ldtilecfg %0" : : "m"(config) : "memory");
    loaded = &config;
  }

  template <int Tile>
  [[gnu::always_inline]] static void zero() noexcept {
    asm volatile("tilezero %%tmm%c0" : : "i"(Tile));
  }

  /// Reads the tile's rows, `stride` bytes apart.
  template <int Tile>
  [[gnu::always_inline]] static void load(const void* base, std::size_t stride) noexcept {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(base), "r"(stride), "i"(Tile) : "memory");
  }

  template <int Tile>
  [[gnu::always_inline]] static void store(void* base, std::size_t stride) noexcept {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(base), "r"(stride), "i"(Tile) : "memory");
  }

  /// Sum += A * B over pairs of bfloat16: float (m, n), A (m, 2 k), B (k, 2 n).
  template <int Sum, int A, int B>
  [[gnu::always_inline]] static void add_bf16() noexcept {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(Sum), "i"(A), "i"(B));
  }

  /// Sum += A * B over quads of signed bytes: int32 (m, n), A (m, 4 k), B (k, 4 n).
  template <int Sum, int A, int B>
  [[gnu::always_inline]] static void add_int8() noexcept {
    asm volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(Sum), "i"(A), "i"(B));
  }

 private:
  static inline thread_local const tile_config* loaded = nullptr;
};

/// The same in plain C++.
struct software_tiles {
  static void configure(const tile_config& config) noexcept {
    if (state.config == &config) return;
    state = {&config, {}};
  }

  template <int Tile>
  static void zero() noexcept {
    state.tiles[Tile] = {};
  }

  template <int Tile>
  static void load(const void* base, std::size_t stride) noexcept {
    zero<Tile>();
    for (std::size_t row = 0; row < rows<Tile>(); ++row)
      std::memcpy(state.tiles[Tile][row].data(), static_cast<const std::byte*>(base) + row * stride,
                  row_bytes<Tile>());
  }

  template <int Tile>
  static void store(void* base, std::size_t stride) noexcept {
    for (std::size_t row = 0; row < rows<Tile>(); ++row)
      std::memcpy(static_cast<std::byte*>(base) + row * stride, state.tiles[Tile][row].data(),
                  row_bytes<Tile>());
  }

  template <int Sum, int A, int B>
  static void add_bf16() noexcept {
    const auto value = [](std::uint32_t pair, int at) {
      return std::bit_cast<float>(at == 0 ? pair << 16 : pair & 0xffff0000u);
    };
    multiply<Sum, A, B, float>([&](float sum, std::uint32_t a, std::uint32_t b) {
      return sum + value(a, 0) * value(b, 0) + value(a, 1) * value(b, 1);
    });
  }

  template <int Sum, int A, int B>
  static void add_int8() noexcept {
    multiply<Sum, A, B, std::int32_t>([](std::int32_t sum, std::uint32_t a, std::uint32_t b) {
      for (unsigned at = 0; at < 32; at += 8)
        sum += static_cast<std::int8_t>(a >> at) * static_cast<std::int8_t>(b >> at);
      return sum;
    });
  }

 private:
  using tile = std::array<std::array<std::byte, 64>, 16>;
  struct registers {
    const tile_config* config;
    std::array<tile, 8> tiles;
  };
  static inline thread_local registers state{nullptr, {}};

  template <int Tile>
  static std::size_t rows() noexcept {
    return state.config->rows[Tile];
  }
  template <int Tile>
  static std::size_t row_bytes() noexcept {
    return state.config->row_bytes[Tile];
  }

  /// Runs add(sum, a, b) over all words a of a row of A and b of a column of B, in order.
  template <int Sum, int A, int B, class Number, class Add>
  static void multiply(Add&& add) noexcept {
    using words = std::array<std::uint32_t, 16>;
    for (std::size_t m = 0; m < rows<Sum>(); ++m) {
      auto sums = std::bit_cast<std::array<Number, 16>>(state.tiles[Sum][m]);
      const auto a = std::bit_cast<words>(state.tiles[A][m]);
      for (std::size_t k = 0; k < row_bytes<A>() / 4; ++k) {
        const auto b = std::bit_cast<words>(state.tiles[B][k]);
        for (std::size_t n = 0; n < row_bytes<Sum>() / 4; ++n) sums[n] = add(sums[n], a[k], b[n]);
      }
      state.tiles[Sum][m] = std::bit_cast<std::array<std::byte, 64>>(sums);
    }
  }
};

}  // namespace quire
