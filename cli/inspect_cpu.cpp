#include "cli/inspect_cpu.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <string_view>

#include "compute/cpu_features.hpp"
#include "compute/kernel_table.hpp"
#include "compute/kernels.hpp"
#include "compute/matmul_kernels.hpp"
#include "compute/packed_format.hpp"
#include "compute/tensor_type.hpp"

namespace quire::cli {
namespace {

using json = nlohmann::ordered_json;

json describe_features() {
  json features = json::object();
  for (const cpu_feature& feature : cpu_features()) features[feature.name] = feature.present;
  return features;
}

json describe_machine() {
  const cpu_description cpu = describe_cpu();
  json caches = json::array();
  for (const cpu_cache& cache : cpu.caches)
    caches.push_back(
        {{"name", cache.name}, {"kib", cache.size_bytes / 1024}, {"shared_by", cache.num_sharing}});
  return {{"model", cpu.model}, {"cores", cpu.num_cores}, {"caches", caches}};
}

json describe_isas(const kernel_table& chosen) {
  json isas = json::array();
  for (const auto tables : {compiled_kernels(), emulated_kernels()})
    for (const kernel_table* table : tables) {
      const std::string missing = table->missing();
      isas.push_back({{"name", table->name},
                      {"available", missing.empty()},
                      {"missing", missing},
                      {"chosen", table == &chosen}});
    }
  return isas;
}

/// The kernels that run for one tensor type, each from a number of rows on.
json describe_type(const matmul_kernels& kernels, const tensor_type_traits& traits) {
  const auto type = static_cast<std::size_t>(traits.type);
  const bool wide = kernels.wide_product[type] != nullptr;
  json rows = json::array();
  if (!wide || kernels.wide_rows[type] > 1)
    rows.push_back({{"from_rows", 1},
                    {"activations", is_float(traits.type) ? "f32" : "int8"},
                    {"instruction",
                     is_float(traits.type) ? kernels.f32_instruction : kernels.int8_instruction}});
  if (wide)
    rows.push_back({{"from_rows", kernels.wide_rows[type]},
                    {"activations", "bf16"},
                    {"instruction", kernels.wide_instruction}});
  return {{"type", traits.name}, {"products", rows}};
}

json describe(const kernel_table& chosen) {
  json kernels = json::array();
  for (const tensor_type_traits& traits : tensor_types())
    kernels.push_back(describe_type(*chosen.matmul, traits));
  return {{"cpu", describe_machine()},
          {"features", describe_features()},
          {"isas", describe_isas(chosen)},
          {"isa", chosen.name},
          {"kernels", kernels}};
}

std::string text_of(const json& value) {
  return value.get<std::string>();
}

void print_text(const json& found) {
  fmt::print("{}\n{} cores", text_of(found["cpu"]["model"]), found["cpu"]["cores"].get<int>());
  for (const json& cache : found["cpu"]["caches"])
    fmt::print(", {} {} KiB (shared by {})", text_of(cache["name"]),
               cache["kib"].get<std::size_t>(), cache["shared_by"].get<std::size_t>());
  fmt::print("\nfeatures:");
  for (const auto& [name, present] : found["features"].items())
    fmt::print(" {}{}", present.get<bool>() ? "" : "no-", name);
  fmt::print("\n\ninstruction sets, best first:\n");
  for (const json& isa : found["isas"]) {
    const std::string missing = text_of(isa["missing"]);
    fmt::print("  {:<13} {}{}\n", text_of(isa["name"]),
               missing.empty() ? "available" : "not available: " + missing,
               isa["chosen"].get<bool>() ? ", chosen" : "");
  }
  fmt::print("\nproducts of {}:\n", text_of(found["isa"]));
  for (const json& kernel : found["kernels"])
    for (const json& product : kernel["products"])
      fmt::print("  {:<7} from {:>2} rows: {} activations, {}\n", text_of(kernel["type"]),
                 product["from_rows"].get<int>(), text_of(product["activations"]),
                 text_of(product["instruction"]));
}

}  // namespace

result<int> inspect_cpu(const std::string& isa, bool as_json) {
  const auto chosen = select_kernels(isa);
  if (!chosen) return tl::unexpected(chosen.error());
  const json found = describe(**chosen);
  if (as_json)
    fmt::print("{}\n", found.dump());
  else
    print_text(found);
  return 0;
}

}  // namespace quire::cli
