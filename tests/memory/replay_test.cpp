// The JSON-lines protocol, as its contract words it. Expectations: arithmetic.
#include "memory/replay.hpp"

#include <nlohmann/json.hpp>
#include <sstream>
#include <vector>

#include "tests/support/catch.hpp"

using namespace quire;
using json = nlohmann::json;

namespace {

constexpr const char* store_line =
    R"({"pages":10,"page_tokens":16,"layers":1,"kv_heads":8,"head_dim":64,"type":"q8"})";

struct outcome {
  std::vector<json> answers;
  std::optional<error> why;
  const json& last() const { return answers.back(); }
};

outcome run(const std::vector<std::string>& lines) {
  std::string text;
  for (const auto& line : lines) text += line + "\n";
  std::istringstream in(text);
  std::ostringstream out;
  outcome result;
  const auto replayed = replay(in, out);
  if (!replayed) result.why = replayed.error();
  std::istringstream answers(out.str());
  for (std::string line; std::getline(answers, line);) result.answers.push_back(json::parse(line));
  return result;
}

/// Runs the lines after a description of a store of ten pages; all must be well-formed.
outcome run_ten(std::vector<std::string> lines) {
  lines.insert(lines.begin(), store_line);
  outcome result = run(lines);
  REQUIRE_FALSE(result.why.has_value());
  REQUIRE(result.answers.size() == lines.size());
  return result;
}

std::string put(const std::string& seq, int pos, const std::string& what, double value) {
  return json{{"op", "put"}, {"seq", seq},   {"pos", pos},
              {"head", 3},   {"what", what}, {"values", std::vector<double>(64, value)}}
      .dump();
}

std::string get(const std::string& seq, int pos, const std::string& what) {
  return json{{"op", "get"}, {"seq", seq}, {"pos", pos}, {"head", 3}, {"what", what}}.dump();
}

}  // namespace

TEST_CASE("replay answers every line, the first with the store", "[memory]") {
  const outcome o = run_ten({R"({"op":"stats"})"});
  REQUIRE(o.answers[0].at("ok") == true);
  REQUIRE(o.answers[0].at("page_bytes").get<int>() <= 18432);
  REQUIRE(o.answers[0].at("f32_page_bytes") == 65536);
  REQUIRE(o.last() == json::parse(R"({"ok":true,"sequences_allocated":0,"sequences_freed":0,
      "active_sequences":0,"pages_allocated":0,"pages_freed":0,"used_pages":0,"free_pages":10,
      "cow_operations":0,"defrag_operations":0,"pages_moved":0,"utilization":0.0})"));
}

TEST_CASE("replay gives K and V types of their own", "[memory]") {
  const outcome o = run({R"({"pages":1,"k_type":"q8","v_type":"q4"})"});
  REQUIRE(o.last().at("k_type") == "q8");
  REQUIRE(o.last().at("v_type") == "q4");
}

TEST_CASE("replay of reads and writes of a fork", "[memory]") {
  const outcome o = run_ten({
      R"({"op":"allocate","as":"a","tokens":48})",
      R"({"op":"update","seq":"a","tokens":20})",
      R"({"op":"fork","seq":"a","as":"b"})",
      R"({"op":"read","seq":"b","pos":17})",
      R"({"op":"write","seq":"b","pos":17})",
      R"({"op":"read","seq":"a","pos":17})",
      R"({"op":"stats"})",
  });
  REQUIRE(o.answers[1].at("pages") == 3);
  REQUIRE(o.answers[4] ==
          json::parse(R"({"ok":true,"page":1,"ref_count":2,"tokens":4,"shared":true})"));
  REQUIRE(o.answers[5].at("page") == 3);
  REQUIRE(o.answers[5].at("ref_count") == 1);
  REQUIRE(o.answers[5].at("tokens") == 4);
  REQUIRE(o.answers[5].at("shared") == false);
  REQUIRE(o.answers[6].at("ref_count") == 1);
  REQUIRE(o.last().at("cow_operations") == 2);
  REQUIRE(o.last().at("used_pages") == 4);
}

TEST_CASE("replay words every refusal", "[memory]") {
  const outcome o = run_ten({
      R"({"op":"allocate","as":"a","tokens":128})",
      R"({"op":"allocate","as":"b","tokens":48})",
      R"({"op":"extend","seq":"a","tokens":161})",
      R"({"op":"read","seq":"a","pos":130})",
      R"({"op":"slot","seq":"a","pos":128})",
      R"({"op":"update","seq":"a","tokens":129})",
      R"({"op":"tokens","seq":"nobody"})",
  });
  REQUIRE(o.answers[2] ==
          json::parse(R"({"ok":false,"error":"out_of_pages","needed":3,"available":2})"));
  REQUIRE(o.answers[3] ==
          json::parse(R"({"ok":false,"error":"out_of_pages","needed":3,"available":2})"));
  REQUIRE(o.answers[4] ==
          json::parse(R"({"ok":false,"error":"invalid_page_access","page":8,"position":130})"));
  REQUIRE(o.answers[5] ==
          json::parse(R"({"ok":false,"error":"out_of_bounds","position":128,"allocated":128})"));
  REQUIRE(o.answers[6].at("error") == "out_of_bounds");
  REQUIRE(o.answers[7].at("error") == "sequence_not_found");
}

TEST_CASE("replay takes an unknown name for an unknown sequence", "[memory]") {
  const outcome o = run_ten({
      R"({"op":"free","seq":"nobody"})",
      R"({"op":"compact","seq":"nobody"})",
      R"({"op":"fork","seq":"nobody","as":"b"})",
      R"({"op":"tokens","seq":"b"})",
      R"({"op":"stats"})",
  });
  REQUIRE(o.answers[1].at("ok") == true);
  REQUIRE(o.answers[2].at("moved") == 0);
  REQUIRE(o.answers[3].at("error") == "sequence_not_found");
  REQUIRE(o.answers[4].at("error") == "sequence_not_found");
  REQUIRE(o.last().at("sequences_freed") == 0);
}

TEST_CASE("replay frees a name for another sequence, but not while it lives", "[memory]") {
  const outcome o = run_ten({
      R"({"op":"allocate","as":"a","tokens":1})",
      R"({"op":"allocate","as":"a","tokens":1})",
      R"({"op":"free","seq":"a"})",
      R"({"op":"allocate","as":"a","tokens":1})",
  });
  REQUIRE(o.answers[2].at("error") == "invalid_argument");
  REQUIRE(o.answers[3].at("ok") == true);
  REQUIRE(o.answers[4].at("ok") == true);
}

TEST_CASE("replay moves pages, tells how many, and keeps the rows", "[memory]") {
  const outcome o = run_ten({
      R"({"op":"allocate","as":"a","tokens":16})",
      R"({"op":"allocate","as":"b","tokens":16})",
      R"({"op":"allocate","as":"c","tokens":16})",
      put("c", 4, "v", 2.5),
      R"({"op":"free","seq":"a"})",
      R"({"op":"slot","seq":"c","pos":4})",
      R"({"op":"defragment","max_moves":8})",
      R"({"op":"slot","seq":"c","pos":4})",
      get("c", 4, "v"),
      R"({"op":"fragmentation"})",
      R"({"op":"check"})",
  });
  REQUIRE(o.answers[6].at("value") == 36);
  REQUIRE(o.answers[7].at("moved") == 1);
  REQUIRE(o.answers[8].at("value") == 4);
  for (const json& v : o.answers[9].at("values"))
    REQUIRE(v.get<double>() == Approx(2.5).epsilon(1.0 / 254));
  REQUIRE(o.answers[10] == json::parse(R"({"ok":true,"holes":0,"wasted_capacity":27,
      "fragmentation_ratio":0.0,"largest_free_region":8,"avg_tokens_per_page":2.5})"));
  REQUIRE(o.last() == json::parse(R"({"ok":true})"));
}

TEST_CASE("replay answers figures as value", "[memory]") {
  const outcome o = run_ten({
      R"({"op":"allocate","as":"a","tokens":48})",
      R"({"op":"append","seq":"a","tokens":5})",
      R"({"op":"append","seq":"a","tokens":2})",
      R"({"op":"tokens","seq":"a"})",
      R"({"op":"capacity","seq":"a"})",
      R"({"op":"contiguity","seq":"a"})",
      R"({"op":"should_defragment","threshold":0.3})",
      R"({"op":"table","seq":"a"})",
      R"({"op":"truncate","seq":"a","tokens":3})",
      R"({"op":"memory"})",
      R"({"op":"trim"})",
  });
  REQUIRE(o.answers[4].at("value") == 7);
  REQUIRE(o.answers[5].at("value") == 48);
  REQUIRE(o.answers[6].at("value") == 1.0);
  REQUIRE(o.answers[7].at("value") == false);
  REQUIRE(o.answers[8].at("value") == json::parse("[0,1,2]"));
  REQUIRE(o.answers[9].at("pages") == 1);
  REQUIRE(o.answers[10].at("f32_bytes") == 65536);
  REQUIRE(o.answers[10].at("savings").get<double>() <= 0.28125);
  REQUIRE(o.answers[10].at("capacity_bytes") == 10 * o.answers[10].at("used_bytes").get<int>());
}

TEST_CASE("replay refuses rows that cannot be stored, and goes on", "[memory]") {
  const outcome o = run_ten({
      R"({"op":"allocate","as":"a","tokens":16})",
      put("a", 0, "k", 1e39),
      R"({"op":"put","seq":"a","pos":0,"what":"k","values":[1,2]})",
      R"({"op":"put","seq":"a","pos":0,"head":8,"what":"k","values":[1]})",
      put("a", 0, "k", 1.0),
      get("a", 0, "k"),
  });
  for (std::size_t i = 2; i < 5; ++i) REQUIRE(o.answers[i].at("error") == "invalid_argument");
  REQUIRE(o.answers[5].at("ok") == true);
  REQUIRE(o.last().at("values")[63].get<double>() == Approx(1.0).epsilon(1.0 / 254));
}

TEST_CASE("a malformed line is an error with its number, and what came before is answered",
          "[memory]") {
  const auto line = GENERATE(
      as<std::string>{}, "{", "[]", "7", "null", "\"op\"", R"({"op":"fly"})", R"({"seq":"a"})",
      R"({"op":"allocate","as":"a"})", R"({"op":"allocate","tokens":3})",
      R"({"op":"allocate","as":"a","tokens":-3})", R"({"op":"allocate","as":"a","tokens":1.5})",
      R"({"op":"allocate","as":"a","tokens":"3"})", R"({"op":"allocate","as":"a","tokens":null})",
      R"({"op":"allocate","as":7,"tokens":3})", R"({"op":"allocate","as":"a","tokens":3} x)",
      R"({"op":"get","seq":"a","pos":0})", R"({"op":"get","seq":"a","pos":0,"what":"q"})",
      R"({"op":"put","seq":"a","pos":0,"what":"k"})",
      R"({"op":"put","seq":"a","pos":0,"what":"k","values":["x"]})",
      R"({"op":"put","seq":"a","pos":0,"what":"k","values":[[1]]})");
  CAPTURE(line);
  const outcome o = run({store_line, R"({"op":"stats"})", "", line, R"({"op":"stats"})"});
  REQUIRE(o.why.has_value());
  REQUIRE(exit_code(o.why->code) == 2);
  REQUIRE(o.why->message.rfind("line 4: ", 0) == 0);
  REQUIRE(o.answers.size() == 2);
}

TEST_CASE("a first line that describes no store is an error", "[memory]") {
  const auto line = GENERATE(
      as<std::string>{}, R"({"op":"stats"})", R"({"pages":10,"page_tokens":0})",
      R"({"pages":10,"kv_heads":0})", R"({"pages":10,"head_dim":0})", R"({"pages":10,"layers":0})",
      R"({"pages":10,"type":"q5"})", R"({"pages":18446744073709551615})",
      R"({"pages":10,"head_dim":4294967295,"layers":4294967295,"kv_heads":4294967295})");
  CAPTURE(line);
  const outcome o = run({line});
  REQUIRE(o.why.has_value());
  REQUIRE(o.why->code == errc::invalid_argument);
  REQUIRE(o.why->message.rfind("line 1: ", 0) == 0);
  REQUIRE_FALSE(run({}).why->message.empty());
}
