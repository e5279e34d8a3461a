#include "bench/machine_limits.hpp"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <vector>

#if defined(__x86_64__)
// g++ 12 warns about the deliberately undefined operands inside its own intrinsics (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#endif

namespace quire::bench {

namespace {

using clock = std::chrono::steady_clock;

double seconds_since(clock::time_point start) {
  return std::chrono::duration<double>(clock::now() - start).count();
}

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

#endif

}  // namespace

double stream_read_limit(arena& threads) {
  constexpr std::size_t chunk_words = 1u << 17;  // 1 MiB
  const std::size_t chunks = 256;
  std::vector<std::uint64_t> memory(chunks * chunk_words, 1);
  std::vector<std::uint64_t> sums(chunks);
  double best = 0.0;
  for (int attempt = 0; attempt < 8; ++attempt) {
    const auto start = clock::now();
    threads.parallel(chunks, [&](std::size_t chunk) {
      const std::uint64_t* from = memory.data() + chunk * chunk_words;
      std::uint64_t sum[8] = {};
      for (std::size_t i = 0; i < chunk_words; i += 8)
        for (std::size_t j = 0; j < 8; ++j) sum[j] += from[i + j];
      for (std::size_t j = 1; j < 8; ++j) sum[0] += sum[j];
      sums[chunk] = sum[0];
    });
    best = std::max(best, static_cast<double>(memory.size() * 8) / seconds_since(start));
    if (sums[0] != chunk_words) return 0.0;
  }
  return best;
}

dot_peak dot_product_peak(arena& threads) {
  dot_peak peak{"none", 0.0};
#if defined(__x86_64__)
  int (*dot)(std::size_t) = nullptr;
  double macs_per_round = 0.0;
  if (__builtin_cpu_supports("avx512vnni")) {
    dot = dot_512;
    macs_per_round = 12 * 64;
    peak.instruction = "vpdpbusd zmm";
  } else if (__builtin_cpu_supports("avx2")) {
    dot = dot_256;
    macs_per_round = 12 * 32;
    peak.instruction = "vpmaddubsw ymm";
  } else {
    return peak;
  }
  constexpr std::size_t rounds = 1u << 21;
  const std::size_t chunks = threads.num_threads();
  std::vector<int> results(chunks);
  for (int attempt = 0; attempt < 5; ++attempt) {
    const auto start = clock::now();
    threads.parallel(chunks, [&](std::size_t chunk) { results[chunk] = dot(rounds); });
    const double macs = static_cast<double>(rounds * chunks) * macs_per_round;
    peak.macs_per_second = std::max(peak.macs_per_second, macs / seconds_since(start));
  }
#endif
  return peak;
}

}  // namespace quire::bench
