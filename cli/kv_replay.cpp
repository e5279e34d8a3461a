#include "cli/kv_replay.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <utility>

#include "compute/kv_row.hpp"

namespace quire::cli {
namespace {

using json = nlohmann::ordered_json;

/// A line that cannot be understood; perform() turns it into an error.
struct malformed : std::runtime_error {
  using std::runtime_error::runtime_error;
};

std::uint64_t get_count(const json& line, const char* key) {
  const auto found = line.find(key);
  if (found == line.end()) throw malformed(fmt::format("\"{}\" is missing", key));
  if (!found->is_number_unsigned())
    throw malformed(fmt::format("\"{}\" is {}, not a whole number from 0", key, found->dump()));
  return found->get<std::uint64_t>();
}

std::uint32_t get_count32(const json& line, const char* key) {
  const std::uint64_t value = get_count(line, key);
  if (value > std::numeric_limits<std::uint32_t>::max())
    throw malformed(fmt::format("\"{}\" is {}, which is too large", key, value));
  return static_cast<std::uint32_t>(value);
}

std::string get_text(const json& line, const char* key) {
  const auto found = line.find(key);
  if (found == line.end() || !found->is_string())
    throw malformed(fmt::format("\"{}\" is missing or not a string", key));
  return found->get<std::string>();
}

json parse_object(std::string_view text) {
  json line;
  try {
    line = json::parse(text);
  } catch (const json::exception& problem) {
    throw malformed(problem.what());
  }
  if (!line.is_object()) throw malformed("not a JSON object");
  return line;
}

kv_type get_type(const json& line, const char* key, const std::string& fallback) {
  const std::string name = line.contains(key) ? get_text(line, key) : fallback;
  const auto type = parse_kv_type(name);
  if (!type) throw malformed(fmt::format("\"{}\": {} is not one of f32, f16, q8, q4", key, name));
  return *type;
}

/// The names of error::numbers, where a code has any.
std::pair<const char*, const char*> number_names(errc code) {
  switch (code) {
    case errc::out_of_pages:
      return {"needed", "available"};
    case errc::invalid_page_access:
      return {"page", "position"};
    case errc::out_of_bounds:
      return {"position", "allocated"};
    default:
      return {nullptr, nullptr};
  }
}

json refused(const error& why) {
  json answer{{"ok", false}, {"error", errc_name(why.code)}};
  const auto [first, second] = number_names(why.code);
  if (first != nullptr) {
    answer[first] = why.numbers[0];
    answer[second] = why.numbers[1];
  }
  answer["message"] = why.message;
  return answer;
}

json done() {
  return {{"ok", true}};
}

template <class T>
json value_of(const result<T>& value) {
  if (!value) return refused(value.error());
  return {{"ok", true}, {"value", *value}};
}

json outcome_of(const result<void>& outcome) {
  return outcome ? done() : refused(outcome.error());
}

json page_answer(const page_info& info) {
  return {{"ok", true},
          {"page", to_index(info.page)},
          {"ref_count", info.ref_count},
          {"tokens", info.tokens},
          {"shared", info.shared()}};
}

}  // namespace

kv_replay::kv_replay(page_store store, const kv_layout& layout, const kernel_table& kernels)
    : store_(std::move(store)), layout_(layout), kernels_(&kernels) {}

result<kv_replay> kv_replay::make(std::string_view first_line) try {
  const json line = parse_object(first_line);
  const std::uint32_t pages = get_count32(line, "pages");
  const std::uint32_t page_tokens =
      line.contains("page_tokens") ? get_count32(line, "page_tokens") : 16;
  const std::string type = line.contains("type") ? get_text(line, "type") : "f16";
  auto layout = kv_layout::make(get_count32(line, "layers"), get_count32(line, "kv_heads"),
                                get_count32(line, "head_dim"), page_tokens,
                                get_type(line, "k_type", type), get_type(line, "v_type", type));
  if (!layout) return tl::unexpected(layout.error());
  auto store = page_store::make(pages, page_tokens);
  if (!store) return tl::unexpected(store.error());
  auto kernels = select_kernels("auto");
  if (!kernels) return tl::unexpected(kernels.error());
  kv_replay replay(std::move(*store), *layout, **kernels);
  if (pages > 0) {
    auto pool = page_pool::make(*layout, pages);
    if (!pool) return tl::unexpected(pool.error());
    replay.pool_ = std::move(*pool);
  }
  return replay;
} catch (const malformed& problem) {
  return fail(errc::invalid_argument, problem.what());
}

json kv_replay::description() const {
  return {{"ok", true},
          {"pages", store_.num_pages()},
          {"page_tokens", layout_.page_tokens},
          {"page_bytes", layout_.page_bytes},
          {"ratio", static_cast<double>(layout_.page_bytes) /
                        static_cast<double>(layout_.f32_page_bytes())}};
}

result<json> kv_replay::perform(std::string_view text) try {
  const json line = parse_object(text);
  const std::string op = get_text(line, "op");
  if (auto answer = change(op, line)) return *answer;
  if (auto answer = look(op, line)) return *answer;
  if (auto answer = rearrange(op, line)) return *answer;
  if (auto answer = access_row(op, line)) return *answer;
  return fail(errc::invalid_argument, fmt::format("no operation \"{}\"", op));
} catch (const malformed& problem) {
  return fail(errc::invalid_argument, problem.what());
}

sequence_id kv_replay::sequence(const json& line) const {
  const auto found = names_.find(get_text(line, "seq"));
  return found == names_.end() ? sequence_id{0} : found->second;
}

void kv_replay::apply(const std::vector<page_copy>& copies) {
  if (pool_ && !copies.empty()) pool_->apply(copies);
}

json kv_replay::bind(const json& line, const result<sequence_id>& made) {
  if (!made) return refused(made.error());
  names_.insert_or_assign(get_text(line, "as"), *made);
  return {{"ok", true}, {"sequence", to_index(*made)}, {"pages", store_.table(*made)->size()}};
}

std::optional<json> kv_replay::change(const std::string& op, const json& line) {
  if (op == "allocate") {
    get_text(line, "as");
    return bind(line, store_.allocate(get_count(line, "tokens")));
  }
  if (op == "fork") {
    get_text(line, "as");
    return bind(line, store_.fork(sequence(line)));
  }
  if (op == "extend") return outcome_of(store_.extend(sequence(line), get_count(line, "tokens")));
  if (op == "truncate")
    return outcome_of(store_.truncate(sequence(line), get_count(line, "tokens")));
  if (op == "update") {
    std::vector<page_copy> copies;
    const auto outcome = store_.update_tokens(sequence(line), get_count(line, "tokens"), copies);
    apply(copies);
    return outcome_of(outcome);
  }
  if (op == "free") {
    store_.free(sequence(line));
    names_.erase(get_text(line, "seq"));
    return done();
  }
  return std::nullopt;
}

std::optional<json> kv_replay::look(const std::string& op, const json& line) {
  if (op == "slot") return value_of(store_.slot(sequence(line), get_count(line, "pos")));
  if (op == "tokens") return value_of(store_.tokens(sequence(line)));
  if (op == "contiguity") return value_of(store_.contiguity(sequence(line)));
  if (op == "stats") return statistics();
  if (op == "memory") return memory();
  if (op == "check") return outcome_of(store_.check());
  if (op == "fragmentation") {
    const fragmentation_stats stats = store_.fragmentation();
    return json{{"ok", true},
                {"holes", stats.holes},
                {"wasted_capacity", stats.wasted_capacity},
                {"fragmentation_ratio", stats.fragmentation_ratio},
                {"largest_free_region", stats.largest_free_region},
                {"avg_tokens_per_page", stats.avg_tokens_per_page}};
  }
  if (op == "should_defragment") {
    double threshold = 0.3;
    if (line.contains("threshold")) {
      if (!line["threshold"].is_number()) throw malformed("\"threshold\" is not a number");
      threshold = line["threshold"].get<double>();
    }
    return json{{"ok", true}, {"value", store_.should_defragment(threshold)}};
  }
  return std::nullopt;
}

std::optional<json> kv_replay::rearrange(const std::string& op, const json& line) {
  std::vector<page_copy> copies;
  std::uint32_t moved = 0;
  if (op == "compact")
    moved = store_.compact(sequence(line), copies);
  else if (op == "defragment")
    moved =
        store_.defragment(line.contains("max_moves") ? get_count32(line, "max_moves")
                                                     : std::numeric_limits<std::uint32_t>::max(),
                          copies);
  else
    return std::nullopt;
  apply(copies);
  store_.take_moves();  // nobody else holds page ids here
  return json{{"ok", true}, {"moved", moved}};
}

std::optional<json> kv_replay::access_row(const std::string& op, const json& line) {
  const bool writes = op == "write" || op == "put";
  if (!writes && op != "read" && op != "get") return std::nullopt;
  const sequence_id id = sequence(line);
  const std::uint64_t position = get_count(line, "pos");
  if (!writes) {
    const auto info = store_.page_for_reading(id, position);
    if (!info) return refused(info.error());
    return op == "read" ? page_answer(*info) : get(line, info->page, position);
  }
  // Encoded before the page is un-shared: values that are refused must change nothing.
  std::vector<std::byte> row;
  if (op == "put")
    if (auto encoded = encode(line, row); !encoded) return refused(encoded.error());
  const auto page = store_.page_for_writing(id, position);
  if (!page) return refused(page.error());
  if (page->copy) apply({*page->copy});
  if (op == "write") return page_answer(page->info);
  std::ranges::copy(row, row_of(line, page->info.page, position));
  return done();
}

namespace {

kv_part get_part(const json& line) {
  const std::string what = get_text(line, "what");
  if (what != "k" && what != "v") throw malformed("\"what\" is neither \"k\" nor \"v\"");
  return what == "k" ? kv_part::key : kv_part::value;
}

std::vector<float> get_values(const json& line, std::size_t count) {
  const auto values = line.find("values");
  if (values == line.end() || !values->is_array() || values->size() != count)
    throw malformed(fmt::format("\"values\" is not an array of {} numbers", count));
  std::vector<float> row;
  for (const json& value : *values) {
    if (!value.is_number()) throw malformed("\"values\" holds something that is not a number");
    row.push_back(value.get<float>());
  }
  return row;
}

}  // namespace

std::byte* kv_replay::row_of(const json& line, page_id page, std::uint64_t position) {
  const kv_part part = get_part(line);
  const std::uint32_t head = get_count32(line, "head");
  if (head >= layout_.kv_heads)
    throw malformed(fmt::format("\"head\" is {}; there are {}", head, layout_.kv_heads));
  return pool_->page(page).data() + layout_.rows_offset(0, part, head) +
         (position % layout_.page_tokens) * layout_.row_bytes(part);
}

result<void> kv_replay::encode(const json& line, std::vector<std::byte>& row) const {
  const kv_part part = get_part(line);
  row.resize(layout_.row_bytes(part));
  return encode_kv_row_checked(*kernels_, layout_.type(part), get_values(line, layout_.head_dim),
                               row.data());
}

json kv_replay::get(const json& line, page_id page, std::uint64_t position) {
  std::vector<float> row(layout_.head_dim);
  decode_kv_row(*kernels_, layout_.type(get_part(line)), row_of(line, page, position), row);
  return {{"ok", true}, {"values", row}};
}

json kv_replay::statistics() const {
  const store_stats stats = store_.stats();
  return {{"ok", true},
          {"sequences_allocated", stats.sequences_allocated},
          {"sequences_freed", stats.sequences_freed},
          {"active_sequences", stats.active_sequences},
          {"pages_allocated", stats.pages_allocated},
          {"pages_freed", stats.pages_freed},
          {"used_pages", stats.used_pages},
          {"free_pages", stats.free_pages},
          {"cow_operations", stats.cow_operations},
          {"defrag_operations", stats.defrag_operations},
          {"pages_moved", stats.pages_moved},
          {"utilization", store_.utilization_percent()}};
}

json kv_replay::memory() const {
  const std::uint64_t used_pages = store_.stats().used_pages;
  const std::uint64_t used = used_pages * layout_.page_bytes;
  const std::uint64_t as_f32 = used_pages * layout_.f32_page_bytes();
  return {{"ok", true},
          {"used_bytes", used},
          {"capacity_bytes", std::uint64_t{store_.num_pages()} * layout_.page_bytes},
          {"f32_bytes", as_f32},
          {"savings", as_f32 == 0 ? 1.0 : static_cast<double>(used) / static_cast<double>(as_f32)},
          {"page_bytes", layout_.page_bytes}};
}

}  // namespace quire::cli
