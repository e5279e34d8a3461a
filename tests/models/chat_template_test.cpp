// Places of errors, and what hostile templates and data run into. What templates print is tested
// against jinja2 in chat_template_golden_test.cpp.
#include "models/chat_template.hpp"

#include <string>

#include "tests/support/catch.hpp"

namespace {

using json = nlohmann::ordered_json;
using quire::chat_template;
using quire::errc;

quire::result<std::string> render(const std::string& source,
                                  const json& variables = json::object()) {
  auto parsed = chat_template::parse(source);
  if (!parsed) return tl::unexpected<quire::error>(parsed.error());
  return parsed->render(variables);
}

std::string message_of(const std::string& source, const json& variables = json::object()) {
  const auto rendered = render(source, variables);
  INFO(source.substr(0, 200));
  REQUIRE_FALSE(rendered);
  return rendered.error().message;
}

errc code_of(const std::string& source) {
  const auto rendered = render(source);
  INFO(source);
  REQUIRE_FALSE(rendered);
  return rendered.error().code;
}

std::string repeated(const std::string& part, std::size_t count) {
  std::string whole;
  for (std::size_t i = 0; i < count; ++i) whole += part;
  return whole;
}

bool has(const std::string& text, std::string_view part) {
  UNSCOPED_INFO(text);
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("errors name line and column in code points", "[models]") {
  CHECK(message_of("a\n  {{ 1 + }}") == "chat template:2:10: expected an expression");
  CHECK(message_of("\xc3\xa9\xc3\xa9{{ nope.x }}") == "chat template:1:10: 'nope' is undefined");
  CHECK(message_of("{% if x %}\r\n{{ x['a'].b.c }}\r\n{% endif %}", {{"x", {{"a", 1}}}}) ==
        "chat template:2:12: 'int' has no attribute 'b'");
  CHECK(message_of("{% for a in b %}") == "chat template:1:17: the template ends before 'endfor'");
  CHECK(message_of("x\n{# never") == "chat template:2:1: a comment is not closed by #}");
}

TEST_CASE("raise_exception ends the rendering with its message", "[models]") {
  const auto rendered = render(
      "{% if role == 'x' %}\n{{ raise_exception('no ' ~ role) }}{% endif %}", {{"role", "x"}});
  REQUIRE_FALSE(rendered);
  CHECK(rendered.error().code == errc::invalid_argument);
  CHECK(rendered.error().message == "chat template:2:4: no x");
}

TEST_CASE("what Jinja has and quire has not is refused as unsupported", "[models]") {
  for (const char* source :
       {"{% include 'x' %}", "{% extends 'x' %}", "{% block b %}{% endblock %}",
        "{% import 'x' as y %}", "{% autoescape true %}{% endautoescape %}",
        "{% for x in y recursive %}{% endfor %}", "{{ x | xmlattr }}", "{{ x is nosuch }}",
        "{{ 'a'.encode() }}", "{{ '\\N{BULLET}' }}", "{{ lipsum() }}", "{{ 2 ** 64 }}",
        "{{ 9223372036854775807 + 1 }}", "{{ (-8) ** 0.5 }}", "{% trans %}{% endtrans %}"})
    CHECK(code_of(source) == errc::unsupported);
  CHECK(code_of("{% nosuch %}") == errc::invalid_argument);
}

TEST_CASE("the variables must be an object", "[models]") {
  const auto parsed = chat_template::parse("x");
  REQUIRE(parsed);
  CHECK_FALSE(parsed->render(json::array()));
  CHECK_FALSE(parsed->render(json()));
  CHECK(parsed->render(json::object()).value_or("") == "x");
}

TEST_CASE("a template can be rendered again and moved", "[models]") {
  auto parsed = chat_template::parse(
      "{% set ns = namespace(n=0) %}{% for i in l %}{% set ns.n = ns.n "
      "+ i %}{% endfor %}{{ ns.n }}");
  REQUIRE(parsed);
  CHECK(parsed->render({{"l", {1, 2}}}).value_or("") == "3");
  const chat_template moved = std::move(*parsed);
  CHECK(moved.render({{"l", {5}}}).value_or("") == "5");
}

TEST_CASE("a template that would not end runs out of steps", "[models]") {
  const std::string loops =
      "{% for a in range(99999) %}{% for b in range(99999) %}{{ '' }}{% endfor %}{% endfor %}";
  CHECK(has(message_of(loops), "takes too m"));
  CHECK(
      has(message_of(
              "{% set r = range(99999) %}{% for a in r %}{% for b in r %}{% endfor %}{% endfor %}"),
          "takes too many steps"));
  CHECK(has(message_of("{% macro m(n) %}{% for i in range(9) %}{{ m(n + 1) if n < 40 }}{% endfor %}"
                       "{% endmacro %}{{ m(0) }}"),
            "takes too m"));
}

TEST_CASE("a template that makes too much runs out of memory before the machine does", "[models]") {
  const std::string doubling =
      "{% set ns = namespace(x='xxxxxxxx') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x "
      "%}{% endfor %}";
  CHECK(has(message_of(doubling), "takes too m"));
  CHECK(has(message_of("{{ 'x' * 9999999999 }}"), "too much memory"));
  CHECK(has(message_of("{{ [0] * 9999999999 }}"), "too much memory"));
  CHECK(has(message_of("{% set x = 'a' * 9999999 %}{{ x | replace('a', x) }}"), "too much memory"));
  CHECK(has(message_of("{% set x = 'a' * 9999999 %}{{ x.join(x) }}"), "takes too m"));
  CHECK(has(message_of("{{ '%999999999d' % 1 }}"), "too great a width"));
  CHECK(has(message_of("{{ '{:999999999}'.format(1) }}"), "too great a width"));
  CHECK(has(message_of("{{ '%.999999999f' % 1 }}"), "too great a precision"));
  CHECK(has(message_of("{{ 'a'.center(9999999999) }}"), "too much memory"));
  CHECK(has(message_of("{{ range(100001) }}"), "range of more than 100000"));
  CHECK(has(message_of("{{ range(-9223372036854775807, 9223372036854775807) }}"), "range of more"));
}

TEST_CASE("output beyond 16 MiB is refused", "[models]") {
  const std::string mebibyte = "{% set x = 'x' * 1048576 %}";
  CHECK(render(mebibyte + "{% for i in range(16) %}{{ x }}{% endfor %}").value_or("").size() ==
        16u << 20);
  CHECK(has(message_of(mebibyte + "{% for i in range(17) %}{{ x }}{% endfor %}"),
            "prints more than 16777216 bytes"));
}

TEST_CASE("deep nesting is refused and does not exhaust the stack", "[models]") {
  constexpr std::size_t deep = 100'000;
  for (const std::string& source :
       {"{{ " + repeated("(", deep) + "1" + repeated(")", deep) + " }}",
        "{{ " + repeated("[", deep) + repeated("]", deep) + " }}",
        "{{ " + repeated("-", deep) + "1 }}", "{{ " + repeated("not ", deep) + "1 }}",
        "{{ a" + repeated(".b", deep) + " }}", "{{ 1" + repeated(" + 1", deep) + " }}",
        "{{ a" + repeated("|trim", deep) + " }}", "{{ a" + repeated("()", deep) + " }}",
        "{{ 1" + repeated(" if 1 else 1", deep) + " }}", "{{ 1" + repeated(" if 1", deep) + " }}",
        repeated("{% if 1 %}", deep) + repeated("{% endif %}", deep),
        "{{ " + repeated("{'a':", deep) + "1" + repeated("}", deep) + " }}"})
    CHECK(has(message_of(source), "nested too deeply"));
  CHECK(has(message_of("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"), "recurses too deeply"));
  const std::string nested =
      "{% set ns = namespace(x=[]) %}{% for i in range(9999) %}{% set ns.x = [ns.x] %}{% endfor %}";
  CHECK(has(message_of(nested + "{{ ns.x }}"), "nested too deeply"));
  CHECK(has(message_of(nested + "{{ ns.x | tojson }}"), "nested too deeply"));
  CHECK(has(message_of(nested + "{{ ns.x == [ns.x] }}"), "nested too deeply"));
  CHECK(has(message_of("{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}"),
            "nested too deeply"));
}

TEST_CASE("data that is nested too deeply is refused", "[models]") {
  json deep = 1;
  for (int i = 0; i < 1000; ++i) deep = json::array({std::move(deep)});
  CHECK(has(message_of("{{ x }}", {{"x", deep}}), "nested too deeply"));
  CHECK(has(message_of("{{ x }}", {{"x", 18446744073709551615u}}), "too large"));
}

TEST_CASE("long chains that a template may well have are fine", "[models]") {
  CHECK(render("{{ ''" + repeated(" ~ 'a'", 5000) + " }}").value_or("").size() == 5000);
  CHECK(render("{{ 0" + repeated(" + 1", 200) + " }}").value_or("") == "200");
  const std::string elifs =
      "{% if 0 %}" + repeated("{% elif 0 %}", 5000) + "{% else %}x{% endif %}";
  CHECK(render(elifs).value_or("") == "x");
}
