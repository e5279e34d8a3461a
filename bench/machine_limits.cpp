#include "bench/machine_limits.hpp"

#include <time.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "compute/cpu_features.hpp"
#include "compute/isa/tiles.hpp"

#if defined(__x86_64__)
// g++ 12 warns about the deliberately undefined operands inside its own intrinsics (GCC bug
// 105593).
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#endif

namespace quire::bench {

namespace {

#if defined(__x86_64__)

// Twelve independent sums: more than latency times throughput of the dot products.
[[gnu::target("avx512f,avx512bw,avx512vl,avx512vnni")]] int dot_512(std::size_t rounds) {
  __m512i sums[12];
  for (__m512i& sum : sums) sum = _mm512_setzero_si512();
  __m512i a = _mm512_set1_epi8(3);
  __m512i b = _mm512_set1_epi8(-2);
  for (std::size_t i = 0; i < rounds; ++i) {
    asm volatile("" : "+v"(a), "+v"(b));
#pragma GCC unroll 12
    for (__m512i& sum : sums) sum = _mm512_dpbusd_epi32(sum, a, b);
  }
  for (int i = 1; i < 12; ++i) sums[0] = _mm512_add_epi32(sums[0], sums[i]);
  return _mm_cvtsi128_si32(_mm512_castsi512_si128(sums[0]));
}

[[gnu::target("avx2,avxvnni")]] int dot_256_vnni(std::size_t rounds) {
  __m256i sums[12];
  for (__m256i& sum : sums) sum = _mm256_setzero_si256();
  __m256i a = _mm256_set1_epi8(3);
  __m256i b = _mm256_set1_epi8(-2);
  for (std::size_t i = 0; i < rounds; ++i) {
    asm volatile("" : "+x"(a), "+x"(b));
#pragma GCC unroll 12
    for (__m256i& sum : sums) sum = _mm256_dpbusd_avx_epi32(sum, a, b);
  }
  for (int i = 1; i < 12; ++i) sums[0] = _mm256_add_epi32(sums[0], sums[i]);
  return _mm_cvtsi128_si32(_mm256_castsi256_si128(sums[0]));
}

[[gnu::target("avx2")]] int dot_256(std::size_t rounds) {
  __m256i sums[12];
  for (__m256i& sum : sums) sum = _mm256_setzero_si256();
  __m256i a = _mm256_set1_epi8(3);
  __m256i b = _mm256_set1_epi8(-2);
  for (std::size_t i = 0; i < rounds; ++i) {
    asm volatile("" : "+x"(a), "+x"(b));
#pragma GCC unroll 12
    for (__m256i& sum : sums) sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(a, b));
  }
  for (int i = 1; i < 12; ++i) sums[0] = _mm256_add_epi16(sums[0], sums[i]);
  return _mm_cvtsi128_si32(_mm256_castsi256_si128(sums[0]));
}

/// Four sums, as the kernels have them.
int tile_products(std::size_t rounds) {
  static const tile_config config = [] {
    tile_config full;
    for (std::size_t i = 0; i < 8; ++i) {
      full.row_bytes[i] = 64;
      full.rows[i] = 16;
    }
    return full;
  }();
  hardware_tiles::configure(config);
  for (std::size_t i = 0; i < rounds; ++i) {
    hardware_tiles::add_bf16<0, 4, 6>();
    hardware_tiles::add_bf16<1, 4, 7>();
    hardware_tiles::add_bf16<2, 5, 6>();
    hardware_tiles::add_bf16<3, 5, 7>();
  }
  return 0;
}

#endif

/// Runs `product` on all threads; the best of twenty.
double best_rate(arena& threads, int (*product)(std::size_t), std::size_t rounds,
                 double macs_per_round) {
  const std::size_t chunks = threads.num_threads();
  std::vector<int> results(chunks);
  double best = 0.0;
  const arena::hot awake(threads);
  for (int attempt = 0; attempt < 20; ++attempt) {
    const double start = bench_seconds(threads);
    threads.parallel(chunks, [&](std::size_t chunk) { results[chunk] = product(rounds); });
    const double macs = static_cast<double>(rounds * chunks) * macs_per_round;
    best = std::max(best, macs / (bench_seconds(threads) - start));
  }
  return best;
}

}  // namespace

double bench_seconds(const arena& threads) {
  timespec now{};
  clock_gettime(threads.num_threads() == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

double stream_read_limit(arena& threads) {
  constexpr std::size_t chunk_words = 1u << 17;  // 1 MiB
  constexpr std::size_t chunks = 256;
  // Each attempt reads another quarter: short enough to find a quiet moment, long unread when it is
  // due.
  constexpr std::size_t share = chunks / 4;
  std::vector<std::uint64_t> memory(chunks * chunk_words, 1);
  std::vector<std::uint64_t> sums(chunks);
  const arena::hot awake(threads);
  double best = 0.0;
  for (std::size_t attempt = 0; attempt < 40; ++attempt) {
    const std::size_t first = attempt % 4 * share;
    const double start = bench_seconds(threads);
    threads.parallel(share, [&](std::size_t i) {
      const std::uint64_t* from = memory.data() + (first + i) * chunk_words;
      std::uint64_t sum[8] = {};
      for (std::size_t k = 0; k < chunk_words; k += 8)
        for (std::size_t j = 0; j < 8; ++j) sum[j] += from[k + j];
      for (std::size_t j = 1; j < 8; ++j) sum[0] += sum[j];
      sums[first + i] = sum[0];
    });
    const double bytes = static_cast<double>(share * chunk_words * sizeof(std::uint64_t));
    best = std::max(best, bytes / (bench_seconds(threads) - start));
    if (sums[first] != chunk_words) return 0.0;
  }
  return best;
}

dot_peak dot_product_peak(arena& threads, std::string_view isa) {
#if defined(__x86_64__)
  constexpr std::size_t rounds = 1u << 21;
  const bool narrow = isa == "avx_vnni" || isa == "avx2" || isa == "scalar";
  if (!narrow && missing_features({"avx512_vnni", "avx512bw", "avx512vl"}).empty())
    return {"vpdpbusd zmm", best_rate(threads, dot_512, rounds, 12 * 64)};
  if (isa != "avx2" && isa != "scalar" && missing_features({"avx_vnni"}).empty())
    return {"vpdpbusd ymm", best_rate(threads, dot_256_vnni, rounds, 12 * 32)};
  if (missing_features({"avx2"}).empty())
    return {"vpmaddubsw ymm", best_rate(threads, dot_256, rounds, 12 * 32)};
#endif
  return {"none", 0.0};
}

dot_peak tile_peak(arena& threads) {
#if defined(__x86_64__)
  if (missing_amx().empty())
    return {"tdpbf16ps", best_rate(threads, tile_products, 1u << 18, 4 * 16 * 16 * 32)};
#endif
  return {"none", 0.0};
}

}  // namespace quire::bench
