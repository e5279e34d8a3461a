#include "memory/replay.hpp"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "memory/kv_store.hpp"
#include "memory/replay_line.hpp"

namespace quire {
namespace {

/// Answers are handed on in stretches of about this many bytes.
constexpr std::size_t out_bytes = 1 << 16;

/// What a line asks for that the trace itself gets wrong: the replay ends there.
tl::unexpected<error> malformed(const std::string& what) {
  return fail(errc::invalid_argument, what);
}

std::string quoted(std::string_view text) {
  std::string out;
  out += '"';
  out += text;
  out += '"';
  return out;
}

result<std::uint32_t> narrow(std::optional<std::uint64_t> value, std::uint32_t otherwise,
                             std::string_view field) {
  if (!value) return otherwise;
  if (*value > UINT32_MAX)
    return malformed(quoted(field) + " is " + std::to_string(*value) +
                     ", more than can be counted");
  return static_cast<std::uint32_t>(*value);
}

result<kv_type> type_of(const std::optional<std::string>& own,
                        const std::optional<std::string>& both) {
  const std::string name = own ? *own : both.value_or("f32");
  if (const auto type = parse_kv_type(name)) return *type;
  return malformed(quoted(name) + " is no type of keys and values; f32, f16, q8 and q4 are");
}

result<kv_store> store_of(const replay_line& line) {
  if (!line.pages) return malformed("\"pages\" is missing: the first line describes the store");
  const auto pages = narrow(line.pages, 0, "pages");
  const auto page_tokens = narrow(line.page_tokens, 16, "page_tokens");
  const auto layers = narrow(line.layers, 1, "layers");
  const auto kv_heads = narrow(line.kv_heads, 1, "kv_heads");
  const auto head_dim = narrow(line.head_dim, 64, "head_dim");
  for (const auto* figure : {&pages, &page_tokens, &layers, &kv_heads, &head_dim})
    if (!*figure) return tl::unexpected(figure->error());
  const auto type_k = type_of(line.k_type, line.type);
  const auto type_v = type_of(line.v_type, line.type);
  if (!type_k) return tl::unexpected(type_k.error());
  if (!type_v) return tl::unexpected(type_v.error());
  const auto layout =
      kv_layout::make(*layers, *kv_heads, *head_dim, *page_tokens, *type_k, *type_v);
  if (!layout) return tl::unexpected(layout.error());
  return kv_store::make(*layout, *pages);
}

/// Runs the operations of one trace. Each handler answers, or returns what is malformed.
class replayer {
 public:
  replayer(kv_store store, std::string& out) : store_(std::move(store)), out_(out) {}

  void describe();
  result<void> run(const replay_line& line);

 private:
  using handler = result<void> (replayer::*)(const replay_line&);
  struct operation {
    handler run;
    bool seq = false;
    bool tokens = false;
    bool pos = false;
    bool as = false;
  };
  static const std::unordered_map<std::string_view, operation>& operations();

  sequence_id id_of(const replay_line& line) const {
    const auto found = names_.find(*line.seq);
    return found == names_.end() ? sequence_id{} : found->second;
  }
  result<void> refuse(const error& why);
  template <class T>
  result<void> answer_value(const result<T>& value) {
    if (!value) return refuse(value.error());
    replay_answer(out_, true).add("value", *value);
    return {};
  }
  void add_page(replay_answer& answer, const page_info& page) {
    answer.add("page", std::uint64_t{to_index(page.page)})
        .add("ref_count", std::uint64_t{page.ref_count})
        .add("tokens", std::uint64_t{page.tokens})
        .add("shared", page.shared());
  }
  result<void> answer_sequence(sequence_id id);
  result<kv_row> row_of(const replay_line& line) const;
  result<void> name_taken(const std::string& name);

  result<void> allocate(const replay_line& line);
  result<void> fork(const replay_line& line);
  result<void> free(const replay_line& line);
  result<void> extend(const replay_line& line);
  result<void> append(const replay_line& line);
  result<void> update(const replay_line& line);
  result<void> truncate(const replay_line& line);
  result<void> read(const replay_line& line);
  result<void> write(const replay_line& line);
  result<void> slot(const replay_line& line);
  result<void> tokens(const replay_line& line);
  result<void> capacity(const replay_line& line);
  result<void> table(const replay_line& line);
  result<void> contiguity(const replay_line& line);
  result<void> compact(const replay_line& line);
  result<void> defragment(const replay_line& line);
  result<void> should_defragment(const replay_line& line);
  result<void> put(const replay_line& line);
  result<void> get(const replay_line& line);
  result<void> stats(const replay_line& line);
  result<void> fragmentation(const replay_line& line);
  result<void> memory(const replay_line& line);
  result<void> trim(const replay_line& line);
  result<void> check(const replay_line& line);

  kv_store store_;
  std::string& out_;
  std::unordered_map<std::string, sequence_id> names_;
  std::vector<float> row_;
};

const std::unordered_map<std::string_view, replayer::operation>& replayer::operations() {
  using r = replayer;
  static const std::unordered_map<std::string_view, operation> all{
      {"allocate", {.run = &r::allocate, .tokens = true, .as = true}},
      {"fork", {.run = &r::fork, .seq = true, .as = true}},
      {"free", {.run = &r::free, .seq = true}},
      {"extend", {.run = &r::extend, .seq = true, .tokens = true}},
      {"append", {.run = &r::append, .seq = true, .tokens = true}},
      {"update", {.run = &r::update, .seq = true, .tokens = true}},
      {"truncate", {.run = &r::truncate, .seq = true, .tokens = true}},
      {"read", {.run = &r::read, .seq = true, .pos = true}},
      {"write", {.run = &r::write, .seq = true, .pos = true}},
      {"slot", {.run = &r::slot, .seq = true, .pos = true}},
      {"tokens", {.run = &r::tokens, .seq = true}},
      {"capacity", {.run = &r::capacity, .seq = true}},
      {"table", {.run = &r::table, .seq = true}},
      {"contiguity", {.run = &r::contiguity, .seq = true}},
      {"compact", {.run = &r::compact, .seq = true}},
      {"defragment", {.run = &r::defragment}},
      {"should_defragment", {.run = &r::should_defragment}},
      {"put", {.run = &r::put, .seq = true, .pos = true}},
      {"get", {.run = &r::get, .seq = true, .pos = true}},
      {"stats", {.run = &r::stats}},
      {"fragmentation", {.run = &r::fragmentation}},
      {"memory", {.run = &r::memory}},
      {"trim", {.run = &r::trim}},
      {"check", {.run = &r::check}},
  };
  return all;
}

void replayer::describe() {
  const kv_layout& layout = store_.layout();
  replay_answer(out_, true)
      .add("pages", std::uint64_t{store_.pages().num_pages()})
      .add("page_tokens", std::uint64_t{layout.page_tokens})
      .add("page_bytes", std::uint64_t{layout.page_bytes})
      .add("f32_page_bytes", std::uint64_t{layout.f32_page_bytes()})
      .add("k_type", kv_type_name(layout.type_k))
      .add("v_type", kv_type_name(layout.type_v));
}

result<void> replayer::run(const replay_line& line) {
  if (!line.op) return malformed("\"op\" is missing");
  const auto found = operations().find(*line.op);
  if (found == operations().end()) return malformed(quoted(*line.op) + " is no operation");
  const operation& wanted = found->second;
  const auto missing = [&](std::string_view field) {
    return malformed(quoted(field) + " is missing for " + quoted(*line.op));
  };
  if (wanted.seq && !line.seq) return missing("seq");
  if (wanted.as && !line.as) return missing("as");
  if (wanted.tokens && !line.tokens) return missing("tokens");
  if (wanted.pos && !line.pos) return missing("pos");
  return (this->*wanted.run)(line);
}

result<void> replayer::refuse(const error& why) {
  replay_answer answer(out_, false);
  answer.add("error", errc_name(why.code));
  switch (why.code) {
    case errc::out_of_pages:
      answer.add("needed", why.numbers[0]).add("available", why.numbers[1]);
      break;
    case errc::invalid_page_access:
      answer.add("page", why.numbers[0]).add("position", why.numbers[1]);
      break;
    case errc::out_of_bounds:
      answer.add("position", why.numbers[0]).add("allocated", why.numbers[1]);
      break;
    case errc::sequence_not_found:
      answer.add("id", why.numbers[0]);
      break;
    default:
      answer.add("message", why.message);
      break;
  }
  return {};
}

result<void> replayer::name_taken(const std::string& name) {
  return refuse({errc::invalid_argument, "a live sequence is already named " + quoted(name), {}});
}

result<void> replayer::answer_sequence(sequence_id id) {
  replay_answer(out_, true)
      .add("id", to_index(id))
      .add("tokens", *store_.pages().tokens(id))
      .add("pages", std::uint64_t{store_.pages().table(id)->size()})
      .add("capacity", *store_.pages().capacity(id));
  return {};
}

result<void> replayer::allocate(const replay_line& line) {
  if (names_.count(*line.as) != 0) return name_taken(*line.as);
  const auto made = store_.allocate(*line.tokens);
  if (!made) return refuse(made.error());
  names_.emplace(*line.as, *made);
  return answer_sequence(*made);
}

result<void> replayer::fork(const replay_line& line) {
  if (names_.count(*line.as) != 0) return name_taken(*line.as);
  const auto made = store_.fork(id_of(line));
  if (!made) return refuse(made.error());
  names_.emplace(*line.as, *made);
  return answer_sequence(*made);
}

result<void> replayer::free(const replay_line& line) {
  const std::uint64_t before = store_.pages().free_pages();
  store_.free(id_of(line));
  names_.erase(*line.seq);
  replay_answer(out_, true).add("freed", store_.pages().free_pages() - before);
  return {};
}

result<void> replayer::extend(const replay_line& line) {
  const sequence_id id = id_of(line);
  if (auto done = store_.extend(id, *line.tokens); !done) return refuse(done.error());
  return answer_sequence(id);
}

result<void> replayer::append(const replay_line& line) {
  const sequence_id id = id_of(line);
  const auto stored = store_.pages().tokens(id);
  if (!stored) return refuse(stored.error());
  const std::uint64_t total =
      *line.tokens > UINT64_MAX - *stored ? UINT64_MAX : *stored + *line.tokens;
  if (auto done = store_.update_tokens(id, total); !done) return refuse(done.error());
  return answer_sequence(id);
}

result<void> replayer::update(const replay_line& line) {
  const sequence_id id = id_of(line);
  if (auto done = store_.update_tokens(id, *line.tokens); !done) return refuse(done.error());
  return answer_sequence(id);
}

result<void> replayer::truncate(const replay_line& line) {
  const sequence_id id = id_of(line);
  if (auto done = store_.truncate(id, *line.tokens); !done) return refuse(done.error());
  return answer_sequence(id);
}

result<void> replayer::read(const replay_line& line) {
  const auto page = store_.pages().page_for_reading(id_of(line), *line.pos);
  if (!page) return refuse(page.error());
  replay_answer answer(out_, true);
  add_page(answer, *page);
  return {};
}

result<void> replayer::write(const replay_line& line) {
  const std::uint64_t before = store_.pages().stats().cow_operations;
  const auto page = store_.page_for_writing(id_of(line), *line.pos);
  if (!page) return refuse(page.error());
  replay_answer answer(out_, true);
  add_page(answer, page->info);
  answer.add("unshared", store_.pages().stats().cow_operations != before)
      .add("copied_tokens", std::uint64_t{page->copy ? page->copy->tokens : 0});
  return {};
}

result<void> replayer::slot(const replay_line& line) {
  return answer_value(store_.pages().slot(id_of(line), *line.pos));
}

result<void> replayer::tokens(const replay_line& line) {
  return answer_value(store_.pages().tokens(id_of(line)));
}

result<void> replayer::capacity(const replay_line& line) {
  return answer_value(store_.pages().capacity(id_of(line)));
}

result<void> replayer::table(const replay_line& line) {
  const auto table = store_.pages().table(id_of(line));
  if (!table) return refuse(table.error());
  std::vector<std::uint64_t> pages;
  for (const page_id page : *table) pages.push_back(to_index(page));
  replay_answer(out_, true).add("value", pages);
  return {};
}

result<void> replayer::contiguity(const replay_line& line) {
  return answer_value(store_.pages().contiguity(id_of(line)));
}

result<void> replayer::compact(const replay_line& line) {
  replay_answer(out_, true).add("moved", std::uint64_t{store_.compact(id_of(line))});
  return {};
}

result<void> replayer::defragment(const replay_line& line) {
  const auto limit = static_cast<std::uint32_t>(
      std::min<std::uint64_t>(line.max_moves.value_or(UINT32_MAX), UINT32_MAX));
  replay_answer(out_, true).add("moved", std::uint64_t{store_.defragment(limit)});
  return {};
}

result<void> replayer::should_defragment(const replay_line& line) {
  const bool value = store_.pages().should_defragment(line.threshold.value_or(0.3));
  replay_answer(out_, true).add("value", value);
  return {};
}

result<kv_row> replayer::row_of(const replay_line& line) const {
  if (!line.what || (*line.what != "k" && *line.what != "v"))
    return malformed("\"what\" must be \"k\" or \"v\"");
  // A figure past 32 bits stands for one that does not exist.
  const auto cut = [](std::uint64_t value) {
    return static_cast<std::uint32_t>(std::min<std::uint64_t>(value, UINT32_MAX));
  };
  return kv_row{cut(line.layer.value_or(0)), *line.what == "k" ? kv_part::key : kv_part::value,
                cut(line.head.value_or(0))};
}

result<void> replayer::put(const replay_line& line) {
  const auto row = row_of(line);
  if (!row) return tl::unexpected(row.error());
  if (!line.values) return malformed("\"values\" is missing for \"put\"");
  if (auto done = store_.put(id_of(line), *line.pos, *row, *line.values); !done)
    return refuse(done.error());
  const auto page = store_.pages().page_for_reading(id_of(line), *line.pos);
  replay_answer answer(out_, true);
  add_page(answer, *page);
  return {};
}

result<void> replayer::get(const replay_line& line) {
  const auto row = row_of(line);
  if (!row) return tl::unexpected(row.error());
  row_.resize(store_.layout().head_dim);
  if (auto done = store_.get(id_of(line), *line.pos, *row, row_); !done)
    return refuse(done.error());
  replay_answer(out_, true).add("values", row_);
  return {};
}

result<void> replayer::stats(const replay_line&) {
  const store_stats s = store_.pages().stats();
  replay_answer(out_, true)
      .add("sequences_allocated", s.sequences_allocated)
      .add("sequences_freed", s.sequences_freed)
      .add("active_sequences", s.active_sequences)
      .add("pages_allocated", s.pages_allocated)
      .add("pages_freed", s.pages_freed)
      .add("used_pages", s.used_pages)
      .add("free_pages", s.free_pages)
      .add("cow_operations", s.cow_operations)
      .add("defrag_operations", s.defrag_operations)
      .add("pages_moved", s.pages_moved)
      .add("utilization", store_.pages().utilization_percent());
  return {};
}

result<void> replayer::fragmentation(const replay_line&) {
  const fragmentation_stats f = store_.pages().fragmentation();
  replay_answer(out_, true)
      .add("holes", f.holes)
      .add("wasted_capacity", f.wasted_capacity)
      .add("fragmentation_ratio", f.fragmentation_ratio)
      .add("largest_free_region", f.largest_free_region)
      .add("avg_tokens_per_page", f.avg_tokens_per_page);
  return {};
}

result<void> replayer::memory(const replay_line&) {
  const kv_memory m = store_.memory();
  replay_answer(out_, true)
      .add("used_bytes", m.used_bytes)
      .add("capacity_bytes", m.capacity_bytes)
      .add("f32_bytes", m.f32_bytes)
      .add("savings", m.ratio)
      .add("page_bytes", m.page_bytes);
  return {};
}

result<void> replayer::trim(const replay_line&) {
  replay_answer(out_, true).add("value", std::uint64_t{store_.trim()});
  return {};
}

result<void> replayer::check(const replay_line&) {
  if (const auto sound = store_.check(); !sound) return refuse(sound.error());
  replay_answer answer(out_, true);
  return {};
}

bool is_blank(std::string_view line) {
  return line.find_first_not_of(" \t\r") == std::string_view::npos;
}

}  // namespace

result<void> replay(std::istream& in, std::ostream& out) {
  std::string text;
  std::string answers;
  std::optional<replayer> trace;
  std::uint64_t number = 0;
  const auto hand_on = [&] {
    out.write(answers.data(), static_cast<std::streamsize>(answers.size()));
    out.flush();
    answers.clear();
  };
  const auto stop = [&](const error& why) {
    hand_on();
    return fail(why.code, "line " + std::to_string(number) + ": " + why.message);
  };
  while (std::getline(in, text)) {
    ++number;
    if (is_blank(text)) continue;
    const auto line = replay_line::parse(text);
    if (!line) return stop(line.error());
    if (!trace) {
      auto store = store_of(*line);
      if (!store) return stop(store.error());
      trace.emplace(std::move(*store), answers);
      trace->describe();
    } else if (const auto ran = trace->run(*line); !ran) {
      return stop(ran.error());
    }
    if (answers.size() >= out_bytes || in.rdbuf()->in_avail() <= 0) hand_on();
    if (!out) return fail(errc::io_error, "the answers cannot be written");
  }
  hand_on();
  if (!trace) return malformed("line 1: the trace is empty; its first line describes the store");
  return {};
}

}  // namespace quire
