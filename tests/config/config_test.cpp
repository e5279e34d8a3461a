#include "config/config.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <set>
#include <sstream>

#include "tests/support/catch.hpp"

namespace {

using quire::config_builder;
using quire::errc;

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

/// The problems of one YAML text, which must have some.
std::vector<std::string> problems_of(const std::string& yaml) {
  config_builder builder;
  builder.read_text(yaml, "q.yaml");
  const auto config = builder.finish();
  REQUIRE_FALSE(config);
  CHECK(config.error().code == errc::invalid_config);
  return lines_of(config.error().message);
}

std::string only_problem_of(const std::string& yaml) {
  const std::vector<std::string> problems = problems_of(yaml);
  INFO(yaml);
  REQUIRE(problems.size() == 1);
  return problems[0];
}

quire::quire_options options_of(const std::string& yaml) {
  config_builder builder;
  builder.read_text(yaml, "q.yaml");
  const auto config = builder.finish();
  INFO((config ? "" : config.error().message));
  REQUIRE(config);
  return config->options;
}

bool has(const std::string& text, std::string_view part) {
  UNSCOPED_INFO(text);
  return text.find(part) != std::string::npos;
}

std::string origin_of(const quire::loaded_config& config, std::string_view key) {
  for (const auto& value : config.values)
    if (value.key == key) return value.origin;
  return "(no such key)";
}

}  // namespace

TEST_CASE("values of every type reach their field", "[config]") {
  const auto options = options_of(
      "model: {path: /models/a b.gguf, alias: [small, \"gpt-4\"]}\n"
      "server: {port: 9090, host: 0.0.0.0}\n"
      "kv:\n  type_k: f16\n  type_v: q4\n  prefix_cache: false\n"
      "  defragment: {threshold: 0.5}\n"
      "sampling: {temperature: 0, top_p: 0.9}\n"
      "log: {level: warn}\n");
  CHECK(options.engine.model.path == "/models/a b.gguf");
  CHECK(options.engine.model.alias == std::vector<std::string>{"small", "gpt-4"});
  CHECK(options.server.port == 9090);
  CHECK(options.server.host == "0.0.0.0");
  CHECK(options.engine.kv.type_k == quire::kv_type::f16);
  CHECK(options.engine.kv.type_v == quire::kv_type::q4);
  CHECK_FALSE(options.engine.kv.prefix_cache);
  CHECK(options.engine.kv.defragment.threshold == 0.5);
  CHECK(options.engine.sampling.temperature == 0.0f);
  CHECK(options.engine.sampling.top_p == 0.9f);
  CHECK(options.log.level == "warn");
}

TEST_CASE("an empty file and empty groups leave the defaults", "[config]") {
  CHECK(options_of("").server.port == 8080);
  CHECK(options_of("# nothing\n").server.port == 8080);
  CHECK(options_of("server:\nkv: {}\n").server.port == 8080);
}

TEST_CASE("a flag beats the environment, which beats the file, in any order of calls", "[config]") {
  const char* environment[] = {"QUIRE_SERVER_PORT=2", "QUIRE_KV_PAGES=20", "HOME=/h", nullptr};
  config_builder builder;
  builder.set("server.port", "3", "--port");
  builder.read_environment(environment);
  builder.read_text("server: {port: 1, host: a}\nkv: {pages: 10}", "q.yaml");
  const auto config = builder.finish();
  REQUIRE(config);
  CHECK(config->options.server.port == 3);
  CHECK(config->options.engine.kv.pages == 20);
  CHECK(config->options.server.host == "a");
  CHECK(origin_of(*config, "server.port") == "--port");
  CHECK(origin_of(*config, "kv.pages") == "QUIRE_KV_PAGES");
  CHECK(origin_of(*config, "server.host") == "q.yaml:1:25");
  CHECK(origin_of(*config, "kv.type_k") == "default");
  CHECK(config->values.size() == quire::config_keys().size());
}

TEST_CASE("unknown keys are refused with place and nearest valid name", "[config]") {
  CHECK(only_problem_of("kv:\n  pags: 3\n") ==
        "q.yaml:2:3: kv.pags: unknown key; did you mean kv.pages?");
  CHECK(only_problem_of("\nsever: {port: 1}\n") ==
        "q.yaml:2:1: sever: unknown key; did you mean server?");
  CHECK(only_problem_of("port: 1") == "q.yaml:1:1: port: unknown key; did you mean server.port?");
  CHECK(only_problem_of("kv: {defragment: {treshold: 0.1}}") ==
        "q.yaml:1:19: kv.defragment.treshold: unknown key; did you mean kv.defragment.threshold?");
  CHECK(only_problem_of("log: {zzzzzzzzzzzz: 1}") ==
        "q.yaml:1:7: log.zzzzzzzzzzzz: unknown key; log has level, format");
  CHECK(only_problem_of("server: {max_mib: 1}") ==
        "q.yaml:1:10: server.max_mib: unknown key; did you mean kv.max_mib?");
}

TEST_CASE("wrong types are refused with what was expected", "[config]") {
  CHECK(only_problem_of("kv: {pages: many}") ==
        "q.yaml:1:13: kv.pages: expects an integer, got \"many\"");
  CHECK(only_problem_of("kv: {pages: \"16\"}") ==
        "q.yaml:1:13: kv.pages: expects an integer, got the text \"16\"");
  CHECK(only_problem_of("kv: {pages: 1.5}") ==
        "q.yaml:1:13: kv.pages: expects an integer, got \"1.5\"");
  CHECK(only_problem_of("kv: {pages: [1]}") ==
        "q.yaml:1:13: kv.pages: expects an integer, got a list");
  CHECK(only_problem_of("kv: {pages: {a: 1}}") ==
        "q.yaml:1:13: kv.pages: expects an integer, got a group of keys");
  CHECK(only_problem_of("kv: {pages: ~}") ==
        "q.yaml:1:13: kv.pages: expects an integer, got no value");
  CHECK(only_problem_of("kv: {prefix_cache: yes}") ==
        "q.yaml:1:20: kv.prefix_cache: expects true or false, got \"yes\"");
  CHECK(only_problem_of("kv: {type_k: q5}") ==
        "q.yaml:1:14: kv.type_k: expects one of f32, f16, q8, q4, got \"q5\"");
  CHECK(only_problem_of("model: {alias: one}") ==
        "q.yaml:1:16: model.alias: expects a list of texts, got a single value; write [one]");
  CHECK(only_problem_of("sampling: {temperature: .nan}") ==
        "q.yaml:1:25: sampling.temperature: expects a number, got \".nan\"");
  CHECK(only_problem_of("sampling: {temperature: nan}") ==
        "q.yaml:1:25: sampling.temperature: expects a number, got \"nan\"");
  CHECK(only_problem_of("kv: 3") == "q.yaml:1:5: kv: expects a group of keys");
  CHECK(only_problem_of("- kv") == "q.yaml:1:1: expects groups of keys, such as \"server:\"");
}

TEST_CASE("numbers out of range are refused with the range", "[config]") {
  CHECK(only_problem_of("server: {port: 65536}") ==
        "q.yaml:1:16: server.port: must be between 0 and 65535, got 65536");
  CHECK(only_problem_of("server: {port: -1}") ==
        "q.yaml:1:16: server.port: must be between 0 and 65535, got -1");
  CHECK(only_problem_of("server: {port: 99999999999999999999999}") ==
        "q.yaml:1:16: server.port: must be between 0 and 65535, got 99999999999999999999999");
  CHECK(only_problem_of("kv: {page_tokens: 0}") ==
        "q.yaml:1:19: kv.page_tokens: must be between 1 and 4096, got 0");
  CHECK(only_problem_of("kv: {defragment: {threshold: 1.01}}") ==
        "q.yaml:1:30: kv.defragment.threshold: must be between 0 and 1, got 1.01");
}

TEST_CASE("impossible combinations name both values and where they came from", "[config]") {
  CHECK(only_problem_of("kv: {min_mib: 2048}") ==
        "q.yaml:1:15: kv.min_mib: min_mib 2048 is more than max_mib 1024 "
        "(kv.min_mib: q.yaml:1:15, kv.max_mib: default)");
  config_builder builder;
  builder.read_text("kv: {min_mib: 512}", "q.yaml");
  builder.set("kv.max_mib", "256", "--kv-max");
  const auto config = builder.finish();
  REQUIRE_FALSE(config);
  CHECK(config.error().message ==
        "--kv-max: kv.max_mib: min_mib 512 is more than max_mib 256 "
        "(kv.min_mib: q.yaml:1:15, kv.max_mib: --kv-max)");
  CHECK(has(only_problem_of("model: {context_tokens: 8192}\nscheduler: {max_queued_tokens: 100}"),
            "a queue of 100 tokens can never take a prompt of 8192 tokens"));
  CHECK(has(only_problem_of("model: {context_tokens: 1024}\nkv: {pages: 10}"),
            "10 pages of 16 tokens cannot hold one sequence of 1024 tokens"));
}

TEST_CASE("a small maximum lowers the minimum that nobody asked for", "[config]") {
  CHECK(options_of("kv: {max_mib: 8}").engine.kv.min_mib == 8);
  CHECK(options_of("kv: {max_mib: 32, min_mib: 8}").engine.kv.min_mib == 8);
}

TEST_CASE("kv.type stands for keys and values that nobody names themselves", "[config]") {
  using quire::kv_type;
  const auto types_of = [](const std::string& yaml) {
    const quire::kv_options kv = options_of(yaml).engine.kv;
    return std::pair(kv.type_k, kv.type_v);
  };
  CHECK(types_of("") == std::pair(kv_type::q8, kv_type::q8));
  CHECK(types_of("kv: {type: f16}") == std::pair(kv_type::f16, kv_type::f16));
  CHECK(types_of("kv: {type: q4}") == std::pair(kv_type::q8, kv_type::q4));
  CHECK(types_of("kv: {type: q4/q4}") == std::pair(kv_type::q4, kv_type::q4));
  CHECK(types_of("kv: {type_k: q4, type_v: q4}") == std::pair(kv_type::q4, kv_type::q4));
  CHECK(types_of("kv: {type: q4, type_k: q4}") == std::pair(kv_type::q4, kv_type::q4));
  CHECK(types_of("kv: {type: f16, type_v: q4}") == std::pair(kv_type::f16, kv_type::q4));
  CHECK(only_problem_of("kv: {type: q5}") ==
        "q.yaml:1:12: kv.type: expects one of f32, f16, q8, q4, or two of them as in q8/q4, "
        "got \"q5\"");
  CHECK(has(only_problem_of("kv: {type: q4, type_k: q8, type_v: q8}"),
            "kv.type: q4 is keys in q8 and values in q4, but type_k (q.yaml:1:24) and type_v "
            "(q.yaml:1:36) say q8 and q8"));
}

TEST_CASE("a stronger source's kv.type replaces weaker separate types", "[config]") {
  config_builder builder;
  builder.read_text("kv: {type_k: f32, type_v: f16}", "q.yaml");
  builder.set("kv.type", "q4", "--kv");
  const auto config = builder.finish();
  REQUIRE(config);
  CHECK(config->options.engine.kv.type_k == quire::kv_type::q8);
  CHECK(config->options.engine.kv.type_v == quire::kv_type::q4);
  CHECK(origin_of(*config, "kv.type_v") == "--kv");
}

TEST_CASE("a value that was refused causes no combination problem on top", "[config]") {
  CHECK(problems_of("kv: {min_mib: 2048, max_mib: lots}").size() == 1);
}

TEST_CASE("every problem of every source is reported in one run", "[config]") {
  const char* environment[] = {"QUIRE_KV_PAGEZ=1", "QUIRE_LOG_LEVEL=loud", nullptr};
  config_builder builder;
  builder.read_text("server: {port: x, hots: y}\nlog: 1\n", "q.yaml");
  builder.read_environment(environment);
  builder.set("kv.page", "1", "--set");
  builder.set("kv.pages", "-2", "--pages");
  const auto config = builder.finish();
  REQUIRE_FALSE(config);
  CHECK(lines_of(config.error().message) ==
        std::vector<std::string>{
            "q.yaml:1:16: server.port: expects an integer, got \"x\"",
            "q.yaml:1:19: server.hots: unknown key; did you mean server.host?",
            "q.yaml:2:6: log: expects a group of keys",
            "QUIRE_KV_PAGEZ: names no configuration key; did you mean QUIRE_KV_PAGES?",
            "QUIRE_LOG_LEVEL: log.level: expects one of trace, debug, info, warn, error, off, got "
            "\"loud\"",
            "--set: kv.page: unknown key; did you mean kv.pages?",
            "--pages: kv.pages: must be between 0 and 2147483647, got -2"});
}

TEST_CASE("a bad value is reported even where a flag replaces it", "[config]") {
  config_builder builder;
  builder.set("server.port", "1", "--port");
  builder.read_text("server: {port: x}", "q.yaml");
  CHECK_FALSE(builder.finish());
}

TEST_CASE("variables of others are left alone", "[config]") {
  const char* environment[] = {"QUIRE_ISA=avx2", "QUIRE_CACHE=/c", "QUIRE_FOO=1", "SERVER_PORT=x",
                               nullptr};
  config_builder builder;
  builder.read_environment(environment);
  CHECK(builder.finish());
}

TEST_CASE("lists come from variables and flags separated by commas", "[config]") {
  const char* environment[] = {"QUIRE_MODEL_ALIAS=a,b c,d", nullptr};
  config_builder builder;
  builder.read_environment(environment);
  const auto config = builder.finish();
  REQUIRE(config);
  CHECK(config->options.engine.model.alias == std::vector<std::string>{"a", "b c", "d"});
}

TEST_CASE("malformed YAML is one problem with its place", "[config]") {
  CHECK(has(only_problem_of("kv: {pages: 1\nserver:\n"), "q.yaml:"));
  CHECK(has(only_problem_of("a: b: c"), "malformed YAML"));
  CHECK(has(only_problem_of(std::string(100000, '[')), "malformed YAML"));
  CHECK(only_problem_of("kv: {pages: 1}\n---\nkv: {pages: 2}\n") ==
        "q.yaml:3:1: the file holds more than one document");
  CHECK(only_problem_of("kv: {pages: 1, pages: 2}") == "q.yaml:1:16: kv.pages: is given twice");
}

TEST_CASE("an anchor that refers to itself ends at the unknown key", "[config]") {
  CHECK(has(only_problem_of("kv: &a {defragment: *a}"), "kv.defragment.defragment: unknown key"));
}

TEST_CASE("a file that cannot be read is a problem", "[config]") {
  config_builder builder;
  builder.read_file("/nonexistent/q.yaml");
  builder.read_file("/");
  const auto config = builder.finish();
  REQUIRE_FALSE(config);
  CHECK(lines_of(config.error().message) ==
        std::vector<std::string>{"/nonexistent/q.yaml: cannot be read: No such file or directory",
                                 "/: is a directory, not a YAML file"});
}

TEST_CASE("keys that no code acts on yet are refused unless at their default", "[config]") {
  std::size_t tried = 0;
  for (const quire::config_key& key : quire::config_keys()) {
    if (key.support == quire::key_support::implemented) continue;
    ++tried;
    quire::quire_options defaults;
    const quire::config_field field = key.field(defaults);
    const std::string current = quire::value_text(key, defaults);
    const bool is_number = key.max > 0;
    const std::string other = is_number ? fmt::format("{}", key.max)
                              : std::holds_alternative<bool*>(field)
                                  ? (current == "true" ? "false" : "true")
                              : key.choices.empty() ? "other"
                                                    : std::string(key.choices.back());
    REQUIRE(other != current);
    config_builder builder;
    builder.set(key.name, other, "--set");
    const auto config = builder.finish();
    INFO(key.name);
    REQUIRE_FALSE(config);
    CHECK(has(config.error().message, "is not supported yet"));
  }
  CHECK(tried > 0);
  CHECK(options_of("server: {tls_cert: \"\"}").server.tls_cert.empty());
}

TEST_CASE("the table's names are unique, also as variables", "[config]") {
  std::set<std::string> names;
  for (const quire::config_key& key : quire::config_keys())
    CHECK(names.insert(quire::environment_name(key)).second);
  CHECK(names.count("QUIRE_SERVER_PORT") == 1);
  CHECK(names.count("QUIRE_KV_TYPE_K") == 1);
  CHECK(names.count("QUIRE_KV_DEFRAGMENT_MAX_MOVES_PER_STEP") == 1);
}

TEST_CASE("every number's default lies in its range", "[config]") {
  for (const quire::config_key& key : quire::config_keys()) {
    quire::quire_options options;
    const std::string text = quire::value_text(key, options);
    INFO(key.name << " = " << text);
    if (text.front() != '[' && text.front() != '"')
      CHECK_FALSE(quire::assign(key, text, options).has_value());
  }
}
