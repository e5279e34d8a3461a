// compute.batch_invariant on small random models, on every ISA and type of keys and values.
#include "tests/models/batch_invariance.hpp"

#include <string>

using namespace quire;
using namespace quire::testing;

namespace {

std::filesystem::path tiny(const std::string& name) {
  return std::string(QUIRE_SOURCE_DIR "/tests/golden/tiny_") + name + ".gguf";
}

}  // namespace

TEST_CASE("batch-invariant logits do not depend on batch, chunks or reuse", "[models][isa]") {
  unsigned seed = 1;
  for (const std::string name : {"llama", "gemma3"})
    for (const kernel_table* kernels : runnable_kernels())
      for (const kv_type type : {kv_type::f32, kv_type::f16, kv_type::q8, kv_type::q4}) {
        INFO(name << " on " << isa_name(*kernels) << " with " << kv_type_name(type));
        invariance_subject subject(tiny(name), kernels, type, {.count = 70, .longest = 90}, ++seed);
        const auto alone = subject.run({});
        for (const run_shape& way : other_ways()) {
          INFO("batch " << way.batch << ", chunks to " << way.longest_chunk << ", reuse "
                        << way.reuse);
          REQUIRE(num_different(subject.run(way), alone) == 0);
        }
      }
}

TEST_CASE("contexts beyond one split stay batch-invariant", "[models][isa]") {
  for (const kernel_table* kernels : runnable_kernels()) {
    INFO(isa_name(*kernels));
    invariance_subject subject(tiny("llama"), kernels, kv_type::q8,
                               {.count = 3, .longest = 2600, .longest_prefix = 80}, 7);
    const auto alone = subject.run({});
    REQUIRE(num_different(subject.run({.batch = 64, .longest_chunk = 300}), alone) == 0);
    REQUIRE(num_different(subject.run({.batch = 2, .longest_chunk = 90, .reuse = true}), alone) ==
            0);
  }
}

TEST_CASE("without batch invariance the order of sums may differ", "[models][isa]") {
  // Proves that the tests above can see a difference: vector kernels decode in an order of their
  // own.
  if (runnable_kernels().size() < 2) return;
  invariance_subject subject(tiny("llama"), runnable_kernels().front(), kv_type::q8,
                             {.count = 70, .longest = 90}, 3, false);
  const auto alone = subject.run({});
  CHECK(num_different(subject.run({.batch = 64, .longest_chunk = 2}), alone) > 0);
}
