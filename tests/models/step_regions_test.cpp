// Counts the barriers of a step on the default model: on small models each costs as much as a
// product.
#include <iostream>
#include <numeric>

#include "memory/page_pool.hpp"
#include "models/decoder.hpp"
#include "models/gguf.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/model_file.hpp"

using namespace quire;
using namespace quire::testing;

TEST_CASE("a layer has few barriers", "[model]") {
  const auto path = find_model(default_model_name);
  INFO("the default model is missing: run ./dev setup");
  REQUIRE(path);
  arena threads(2);
  const compute_context context{runnable_kernels().front(), &threads};
  const auto file = gguf_file::open(*path).value();
  const auto config = read_model_config(file).value();
  const auto weights = load_weights(context, file, config).value();
  const auto layers = static_cast<std::uint32_t>(config.layers.size());
  const auto layout =
      kv_layout::make(layers, config.kv_heads, config.head_dim, 16, kv_type::q8, kv_type::q8)
          .value();
  auto pool = page_pool::make(layout, 1024).value();
  decoder model(context, config, weights);
  // Few rows share the weights: each group of products and attention is a region, and what lies
  // between where it is worth several threads. Of many rows each thread takes its own: attention is
  // one region, all the rest another.
  const struct {
    std::uint32_t sequences, stored, added;
    double most_per_layer;
  } steps[] = {{1, 100, 1, 4}, {16, 100, 1, 12}, {64, 100, 1, 2.1}, {1, 0, 512, 2.1}};
  for (const auto& step : steps) {
    const std::uint32_t pages = (step.stored + step.added + 15) / 16;
    std::vector<std::vector<page_id>> tables(step.sequences);
    std::vector<attention_sequence> sequences;
    for (std::uint32_t s = 0; s < step.sequences; ++s) {
      for (std::uint32_t p = 0; p < pages; ++p) tables[s].push_back(page_id{s * pages + p});
      sequences.push_back({tables[s], step.stored, step.added, s * step.added});
    }
    const std::vector<token_id> tokens(step.sequences * step.added, token_id{100});
    std::vector<std::uint32_t> wanted(step.sequences);
    for (std::uint32_t s = 0; s < step.sequences; ++s) wanted[s] = (s + 1) * step.added - 1;
    const std::uint64_t before = threads.num_regions();
    model.forward({tokens, sequences, wanted}, pool.data(), layout);
    const double per_layer =
        static_cast<double>(threads.num_regions() - before) / static_cast<double>(layers);
    std::cout << step.sequences << " x " << step.added << " tokens: " << per_layer
              << " regions per layer\n";
    CHECK(per_layer <= step.most_per_layer);
  }
}
