// compute.batch_invariant on the default model, whose weights are quantized.
#include "tests/models/batch_invariance.hpp"

#include "tests/support/model_file.hpp"

using namespace quire;
using namespace quire::testing;

TEST_CASE("200 requests have the same logits alone, batched, chunked and behind prefixes",
          "[model]") {
  const auto path = find_model(default_model_name);
  INFO("the default model is missing: run ./dev setup");
  REQUIRE(path);
  invariance_subject subject(*path, runnable_kernels().front(), kv_type::q8,
                             {.count = 200, .longest = 60, .longest_prefix = 4}, 2);
  REQUIRE(subject.num_requests() == 200);
  const auto alone = subject.run({});
  for (const run_shape& way : other_ways()) {
    INFO("batch " << way.batch << ", chunks to " << way.longest_chunk << ", reuse " << way.reuse);
    REQUIRE(num_different(subject.run(way), alone) == 0);
  }
}
