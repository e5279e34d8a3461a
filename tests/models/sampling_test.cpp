// Expectations: arithmetic on small distributions, and the statistics of many draws.
#include "models/sampling.hpp"

#include <cmath>
#include <map>
#include <numeric>

#include "tests/support/catch.hpp"

using namespace quire;

namespace {

sampling_params plain() {
  sampling_params p;
  p.temperature = 1.0f;
  p.top_k = 0;
  p.top_p = 1.0f;
  p.min_p = 0.0f;
  return p;
}

// Logits whose softmax is exactly the given probabilities.
std::vector<float> logits_of(std::initializer_list<double> probabilities) {
  std::vector<float> out;
  for (const double p : probabilities) out.push_back(static_cast<float>(std::log(p)));
  return out;
}

std::map<std::uint32_t, double> frequencies(const std::vector<float>& logits, sampling_params p,
                                            int draws = 20000) {
  std::map<std::uint32_t, double> seen;
  for (int i = 0; i < draws; ++i) {
    std::vector<float> row = logits;
    seen[to_index(sample(row, p, static_cast<std::uint64_t>(i), {}, {}).token)] += 1.0 / draws;
  }
  return seen;
}

// Four standard deviations of a proportion over 20,000 draws, at most 4 * sqrt(0.25 / 20000).
constexpr double four_sigma = 0.0142;

}  // namespace

TEST_CASE("temperature 0 picks the largest logit, the smallest id among equals", "[models]") {
  sampling_params p = plain();
  p.temperature = 0;
  std::vector<float> logits(1000, -1.0f);
  logits[700] = logits[333] = 4.0f;
  REQUIRE(sample(logits, p, 0, {}, {}).token == token_id{333});
}

TEST_CASE("draws follow the softmax", "[models]") {
  const auto seen = frequencies(logits_of({0.5, 0.3, 0.15, 0.05}), plain());
  CHECK(seen.at(0) == Approx(0.5).margin(four_sigma));
  CHECK(seen.at(1) == Approx(0.3).margin(four_sigma));
  CHECK(seen.at(2) == Approx(0.15).margin(four_sigma));
  CHECK(seen.at(3) == Approx(0.05).margin(four_sigma));
}

TEST_CASE("temperature sharpens as powers of the probabilities", "[models]") {
  sampling_params p = plain();
  p.temperature = 0.5f;  // weights become squares: 0.36, 0.16 of a total of 0.52
  const auto seen = frequencies(logits_of({0.6, 0.4}), p);
  CHECK(seen.at(0) == Approx(0.36 / 0.52).margin(four_sigma));
}

TEST_CASE("top-k keeps the k most likely and renormalizes", "[models]") {
  sampling_params p = plain();
  p.top_k = 2;
  const auto seen = frequencies(logits_of({0.2, 0.5, 0.05, 0.25}), p);
  REQUIRE(seen.size() == 2);
  CHECK(seen.at(1) == Approx(0.5 / 0.75).margin(four_sigma));
  CHECK(seen.at(3) == Approx(0.25 / 0.75).margin(four_sigma));
}

TEST_CASE("top-p keeps the smallest set that reaches the mass", "[models]") {
  sampling_params p = plain();
  p.top_p = 0.7f;
  CHECK(frequencies(logits_of({0.5, 0.3, 0.15, 0.05}), p).size() == 2);
  p.top_p = 0.45f;
  CHECK(frequencies(logits_of({0.5, 0.3, 0.15, 0.05}), p).size() == 1);
  p.top_k = 3;  // of the three kept, 0.5 / 0.95 is the first's share
  p.top_p = 0.51f;
  CHECK(frequencies(logits_of({0.5, 0.3, 0.15, 0.05}), p).size() == 1);
}

TEST_CASE("top-p without top-k is exact over a large flat vocabulary", "[models]") {
  sampling_params p = plain();
  p.top_p = 0.5f;
  const std::vector<float> logits(5000, 0.25f);  // equal: exactly half of them are kept, lowest ids
  for (std::uint64_t i = 0; i < 2000; ++i) {
    std::vector<float> row = logits;
    REQUIRE(to_index(sample(row, p, i, {}, {}).token) < 2500);
  }
}

TEST_CASE("min-p drops what is unlikely relative to the best", "[models]") {
  sampling_params p = plain();
  p.min_p = 0.35f;  // 0.15 / 0.5 = 0.3 is below, 0.3 / 0.5 = 0.6 is not
  CHECK(frequencies(logits_of({0.5, 0.3, 0.15, 0.05}), p).size() == 2);
  p.top_k = 4;
  CHECK(frequencies(logits_of({0.5, 0.3, 0.15, 0.05}), p).size() == 2);
}

TEST_CASE("a seed and an index repeat the draw; other ones change it", "[models]") {
  sampling_params p = plain();
  p.seed = 42;
  const std::vector<float> logits(4096, 0.0f);
  const auto draw = [&](std::uint64_t seed, std::uint64_t index) {
    std::vector<float> row = logits;
    p.seed = seed;
    return sample(row, p, index, {}, {}).token;
  };
  CHECK(draw(42, 7) == draw(42, 7));
  CHECK(draw(42, 7) != draw(42, 8));
  CHECK(draw(42, 7) != draw(43, 7));
}

TEST_CASE("penalties change logits of seen tokens as their definitions say", "[models]") {
  sampling_params p = plain();
  p.temperature = 0;
  const std::vector<token_id> prompt = {token_id{0}};
  const std::vector<token_id> output = {token_id{1}, token_id{1}};
  p.repetition_penalty = 2.0f;  // 3 -> 1.5, 2.9 -> 1.45, 2 stays
  std::vector<float> row = {3.0f, 2.9f, 2.0f};
  CHECK(sample(row, p, 0, prompt, output).token == token_id{2});
  p.repetition_penalty = 1.0f;
  p.frequency_penalty = 0.6f;  // token 1 was put out twice: 2.9 - 1.2; the prompt does not count
  row = {1.6f, 2.9f, 1.65f};
  CHECK(sample(row, p, 0, prompt, output).token == token_id{1});
  p.presence_penalty = 0.1f;  // 2.9 - 1.2 - 0.1 = 1.6
  row = {1.55f, 2.9f, 1.65f};
  CHECK(sample(row, p, 0, prompt, output).token == token_id{2});
  p = plain();
  p.temperature = 0;
  p.logit_bias = {{token_id{0}, 100.0f}, {token_id{99}, 100.0f}};  // ids outside are ignored
  row = {-5.0f, 2.0f, 1.0f};
  CHECK(sample(row, p, 0, {}, {}).token == token_id{0});
}

TEST_CASE("log-probabilities are those of the model, before penalties", "[models]") {
  sampling_params p = plain();
  p.temperature = 0;
  p.logprobs = true;
  p.top_logprobs = 2;
  p.logit_bias = {{token_id{3}, 50.0f}};
  std::vector<float> row = logits_of({0.5, 0.3, 0.15, 0.05});
  const sampled_token s = sample(row, p, 0, {}, {});
  REQUIRE(s.token == token_id{3});
  CHECK(s.logprob == Approx(std::log(0.05)).margin(1e-5));
  REQUIRE(s.top.size() == 2);
  CHECK(s.top[0].token == token_id{0});
  CHECK(s.top[0].logprob == Approx(std::log(0.5)).margin(1e-5));
  CHECK(s.top[1].token == token_id{1});
}

TEST_CASE("random_unit is uniform", "[models]") {
  double mean = 0;
  double square = 0;
  constexpr int n = 100000;
  for (int i = 0; i < n; ++i) {
    const double u = random_unit(1, static_cast<std::uint64_t>(i));
    REQUIRE(u >= 0.0);
    REQUIRE(u < 1.0);
    mean += u / n;
    square += u * u / n;
  }
  CHECK(mean == Approx(0.5).margin(0.004));  // 4 sigma: 4 / sqrt(12 n)
  CHECK(square - mean * mean == Approx(1.0 / 12).margin(0.002));
}
