// What the server says about itself: health, models, the state of the engine.
#include <algorithm>
#include <chrono>
#include <utility>

#include "server/http_api.hpp"

namespace quire {
namespace {

using json = nlohmann::ordered_json;

json describe_pages(const engine_status& state) {
  const double total = static_cast<double>(state.total_pages);
  const double used = static_cast<double>(state.store.used_pages);
  return {{"total", state.total_pages},
          {"used", state.store.used_pages},
          {"free", state.store.free_pages},
          {"reserved", state.reserved_pages},
          {"parked_in_memory", state.parked_memory_pages},
          {"parked_on_disk", state.parked_disk_pages},
          {"utilization", state.total_pages == 0 ? 0.0 : used / total},
          {"page_tokens", state.page_tokens},
          {"page_bytes", state.page_bytes},
          {"type_k", kv_type_name(state.kv.k)},
          {"type_v", kv_type_name(state.kv.v)},
          {"kv_bytes_per_token", state.kv_bytes_per_token}};
}

json describe_store(const store_stats& store) {
  return {{"sequences_allocated", store.sequences_allocated},
          {"sequences_freed", store.sequences_freed},
          {"active_sequences", store.active_sequences},
          {"pages_allocated", store.pages_allocated},
          {"pages_freed", store.pages_freed},
          {"cow_operations", store.cow_operations},
          {"defrag_operations", store.defrag_operations},
          {"pages_moved", store.pages_moved}};
}

json describe_fragmentation(const fragmentation_stats& holes) {
  return {{"holes", holes.holes},
          {"wasted_capacity", holes.wasted_capacity},
          {"fragmentation_ratio", holes.fragmentation_ratio},
          {"largest_free_region", holes.largest_free_region},
          {"avg_tokens_per_page", holes.avg_tokens_per_page}};
}

json describe_prefix(const prefix_stats& prefix) {
  return {{"lookups", prefix.lookups},
          {"hits", prefix.hits},
          {"misses", prefix.misses},
          {"evictions", prefix.evictions},
          {"tokens_saved", prefix.tokens_saved},
          {"pages", prefix.pages}};
}

template <class Value>
json describe_pairs(const std::vector<std::pair<std::string, Value>>& pairs) {
  json object = json::object();
  for (const auto& [name, value] : pairs) object[name] = value;
  return object;
}

}  // namespace

http_api::answer http_api::health(const http_request&) {
  return json_reply({{"status", "ok"}});
}

http_api::answer http_api::ready(const http_request&) {
  if (!draining_) return json_reply({{"status", "ready"}});
  return error_reply(to_api_error(error{errc::unavailable, "The server is draining.", {}}, "", ""));
}

json http_api::describe_model(const std::string& name) const {
  const auto& card = engine_->card();
  return {{"id", name},
          {"object", "model"},
          {"created", started_at_},
          {"owned_by", "quire"},
          {"root", card.id},
          {"parent", nullptr},
          {"max_model_len", card.context_tokens},
          {"meta",
           {{"architecture", card.architecture},
            {"weights_type", card.weights_type},
            {"n_params", card.num_parameters},
            {"size", card.file_bytes},
            {"n_vocab", card.vocabulary_size},
            {"has_chat_template", card.has_chat_template}}}};
}

http_api::answer http_api::list_models(const http_request&) {
  json data = json::array({describe_model(engine_->card().id)});
  for (const auto& alias : served_.aliases)
    if (alias != engine_->card().id) data.push_back(describe_model(alias));
  return json_reply({{"object", "list"}, {"data", std::move(data)}});
}

http_api::answer http_api::get_model(const http_request& request) {
  constexpr std::string_view prefix = "/v1/models/";
  const json wanted = {
      {"model", percent_decode(std::string_view(request.path).substr(prefix.size()))}};
  auto name = read_model_name(wanted, {engine_, &served_});
  if (!name) return error_reply(name.error());
  return json_reply(describe_model(*name));
}

http_api::answer http_api::engine_state(const http_request& request) {
  const auto state = engine_->status();
  if (!state) return error_reply(to_api_error(state.error(), "", request.request_id));
  const auto now = std::chrono::duration_cast<std::chrono::seconds>(
                       std::chrono::system_clock::now().time_since_epoch())
                       .count();
  const auto& card = engine_->card();
  return json_reply({{"model", card.id},
                     {"isa", card.isa},
                     {"threads", card.threads},
                     {"uptime_seconds", now - started_at_},
                     {"draining", draining_.load()},
                     {"queue", {{"waiting", state->requests_waiting}}},
                     {"streams", {{"running", state->requests_running}}},
                     {"pages", describe_pages(*state)},
                     {"fragmentation", describe_fragmentation(state->fragmentation)},
                     {"prefix", describe_prefix(state->prefix)},
                     {"store", describe_store(state->store)},
                     {"counters", describe_pairs(state->counters)},
                     {"seconds", describe_pairs(state->seconds)}});
}

}  // namespace quire
