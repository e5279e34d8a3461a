#include "models/sampling.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <unordered_map>

namespace quire {
namespace {

// Logits are scanned in blocks: a block's maximum is cheap (the lanes vectorize), and most blocks
// hold nothing above the threshold of the moment.
constexpr std::size_t block_values = 256;

float block_max(const float* values, std::size_t n) noexcept {
  constexpr std::size_t num_lanes = 16;
  std::array<float, num_lanes> lanes;
  lanes.fill(-INFINITY);
  std::size_t i = 0;
  for (; i + num_lanes <= n; i += num_lanes)
    for (std::size_t lane = 0; lane < num_lanes; ++lane)
      lanes[lane] = lanes[lane] < values[i + lane] ? values[i + lane] : lanes[lane];
  float best = -INFINITY;
  for (; i < n; ++i) best = std::max(best, values[i]);
  for (const float lane : lanes) best = std::max(best, lane);
  return best;
}

struct candidate {
  token_id token{};
  float logit = 0.0f;
};

bool better(const candidate& a, const candidate& b) noexcept {
  return a.logit != b.logit ? a.logit > b.logit : to_index(a.token) < to_index(b.token);
}

// The k best tokens, best first.
std::vector<candidate> top_candidates(std::span<const float> logits, std::size_t k) {
  std::vector<candidate> heap;  // the worst kept candidate in front
  k = std::min(k, logits.size());
  heap.reserve(k + 1);
  for (std::size_t begin = 0; begin < logits.size(); begin += block_values) {
    const std::size_t n = std::min(block_values, logits.size() - begin);
    if (heap.size() == k && block_max(logits.data() + begin, n) <= heap.front().logit) continue;
    for (std::size_t i = begin; i < begin + n; ++i) {
      if (heap.size() == k && logits[i] <= heap.front().logit) continue;
      heap.push_back({token_id{static_cast<std::uint32_t>(i)}, logits[i]});
      std::push_heap(heap.begin(), heap.end(), better);
      if (heap.size() > k) {
        std::pop_heap(heap.begin(), heap.end(), better);
        heap.pop_back();
      }
    }
  }
  std::sort_heap(heap.begin(), heap.end(), better);
  return heap;
}

double log_sum_exp(std::span<const float> logits) noexcept {
  const float largest = logits[to_index(most_likely(logits))];
  double sum = 0;
  for (const float logit : logits) sum += static_cast<double>(std::exp(logit - largest));
  return static_cast<double>(largest) + std::log(sum);
}

void apply_penalties(std::span<float> logits, const sampling_params& params,
                     std::span<const token_id> prompt, std::span<const token_id> output) {
  for (const auto& [token, bias] : params.logit_bias)
    if (to_index(token) < logits.size()) logits[to_index(token)] += bias;
  const bool repetition = params.repetition_penalty != 1.0f;
  const bool counted = params.presence_penalty != 0.0f || params.frequency_penalty != 0.0f;
  if (!repetition && !counted) return;
  std::unordered_map<std::uint32_t, std::uint32_t> occurrences;  // token -> times in the output
  if (repetition)
    for (const token_id token : prompt) occurrences.emplace(to_index(token), 0);
  for (const token_id token : output) ++occurrences[to_index(token)];
  for (const auto& [token, count] : occurrences) {
    if (token >= logits.size()) continue;
    float& logit = logits[token];
    if (repetition)
      logit = logit > 0 ? logit / params.repetition_penalty : logit * params.repetition_penalty;
    if (count > 0)
      logit -= params.presence_penalty + params.frequency_penalty * static_cast<float>(count);
  }
}

// Candidates that top-k, top-p and min-p leave, with unnormalized weights exp((l - max) / T).
struct weighted {
  std::vector<candidate> candidates;
  std::vector<double> weights;
  double total = 0;
};

double weight_of(float logit, float largest, float temperature) noexcept {
  return std::exp(static_cast<double>(logit - largest) / static_cast<double>(temperature));
}

// Top-p cuts a sorted list; `mass` is the weight of everything it is a share of.
void cut_top_p(weighted& kept, float top_p, double mass) {
  const double wanted = static_cast<double>(top_p) * mass;
  double sum = 0;
  std::size_t n = 0;
  while (n < kept.weights.size() && (n == 0 || sum < wanted)) sum += kept.weights[n++];
  kept.candidates.resize(n);
  kept.weights.resize(n);
}

// No top-k and no top-p: whatever min-p leaves, in the vocabulary's order, without any sorting.
weighted filter_unsorted(std::span<const float> logits, const sampling_params& params,
                         float largest) {
  weighted kept;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const double weight = weight_of(logits[i], largest, params.temperature);
    if (weight < static_cast<double>(params.min_p)) continue;
    kept.candidates.push_back({token_id{static_cast<std::uint32_t>(i)}, logits[i]});
    kept.weights.push_back(weight);
  }
  return kept;
}

weighted filter_sorted(std::span<const float> logits, const sampling_params& params,
                       float largest) {
  weighted kept;
  const bool limited = params.top_k > 0;
  double mass = 0;
  if (!limited)
    for (const float logit : logits) mass += weight_of(logit, largest, params.temperature);
  // Without top-k: few tokens carry most of the mass, so grow the sorted part until it holds
  // enough.
  for (std::size_t n = limited ? params.top_k : 256;; n *= 8) {
    kept.candidates = top_candidates(logits, n);
    kept.weights.clear();
    double sum = 0;
    for (const candidate& c : kept.candidates) {
      kept.weights.push_back(weight_of(c.logit, largest, params.temperature));
      sum += kept.weights.back();
    }
    if (limited) mass = sum;
    if (sum >= static_cast<double>(params.top_p) * mass || n >= logits.size()) break;
  }
  if (params.top_p < 1.0f) cut_top_p(kept, params.top_p, mass);
  const auto first_below = std::find_if(kept.weights.begin(), kept.weights.end(), [&](double w) {
    return w < static_cast<double>(params.min_p);  // the best token weighs exactly 1
  });
  const auto n = static_cast<std::size_t>(first_below - kept.weights.begin());
  kept.candidates.resize(n);
  kept.weights.resize(n);
  return kept;
}

weighted filter(std::span<const float> logits, const sampling_params& params) {
  const float largest = logits[to_index(most_likely(logits))];
  weighted kept = params.top_k == 0 && params.top_p >= 1.0f
                      ? filter_unsorted(logits, params, largest)
                      : filter_sorted(logits, params, largest);
  for (const double weight : kept.weights) kept.total += weight;
  return kept;
}

token_id draw(const weighted& kept, double unit) noexcept {
  double left = unit * kept.total;
  for (std::size_t i = 0; i < kept.weights.size(); ++i) {
    left -= kept.weights[i];
    if (left < 0) return kept.candidates[i].token;
  }
  return kept.candidates.back().token;
}

}  // namespace

token_id most_likely(std::span<const float> logits) noexcept {
  std::size_t best_begin = 0;
  float best = -INFINITY;
  for (std::size_t begin = 0; begin < logits.size(); begin += block_values) {
    const float largest =
        block_max(logits.data() + begin, std::min(block_values, logits.size() - begin));
    if (largest > best) {
      best = largest;
      best_begin = begin;
    }
  }
  for (std::size_t i = best_begin; i < logits.size(); ++i)
    if (logits[i] == best) return token_id{static_cast<std::uint32_t>(i)};
  return token_id{0};
}

float logprob_of(std::span<const float> logits, token_id token) noexcept {
  return static_cast<float>(static_cast<double>(logits[to_index(token)]) - log_sum_exp(logits));
}

double random_unit(std::uint64_t seed, std::uint64_t index) noexcept {
  const auto mix = [](std::uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
  };
  constexpr std::uint64_t golden = 0x9e3779b97f4a7c15ull;
  const std::uint64_t bits = mix(mix(seed + golden) + (index + 1) * golden);
  return static_cast<double>(bits >> 11) * 0x1p-53;
}

sampled_token sample(std::span<float> logits, const sampling_params& params, std::uint64_t index,
                     std::span<const token_id> prompt, std::span<const token_id> output) {
  sampled_token out;
  double normalizer = 0;
  std::vector<candidate> top;
  std::vector<float> raw;  // the row before penalties, whose log-probability is reported
  if (params.logprobs) {
    normalizer = log_sum_exp(logits);
    top = top_candidates(logits, params.top_logprobs);
    raw.assign(logits.begin(), logits.end());
  }
  apply_penalties(logits, params, prompt, output);
  out.token = params.temperature <= 0
                  ? most_likely(logits)
                  : draw(filter(logits, params), random_unit(params.seed, index));
  if (params.logprobs) {
    const auto under_model = [&](float logit) {
      return static_cast<float>(static_cast<double>(logit) - normalizer);
    };
    out.logprob = under_model(raw[to_index(out.token)]);
    for (const candidate& c : top) out.top.push_back({c.token, under_model(c.logit)});
  }
  return out;
}

}  // namespace quire
