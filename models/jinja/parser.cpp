#include "models/jinja/parser.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "models/jinja/expression_parser.hpp"

namespace quire::jinja {
namespace {

class template_parser : expression_parser {
 public:
  using expression_parser::expression_parser;

  statement_list run() { return parse_until({}); }

 private:
  using names = std::initializer_list<std::string_view>;

  bool is_one_of(names ends) const {
    return current().kind == token_kind::name &&
           std::find(ends.begin(), ends.end(), current().text) != ends.end();
  }

  /// Statements up to a tag of one of these names, which becomes the current token; up to the end
  /// of the template when there are none.
  statement_list parse_until(names ends) {
    const nesting guard(*this);
    statement_list body;
    while (current().kind != token_kind::end) {
      const token& t = advance();
      if (t.kind == token_kind::data) {
        body.push_back({t.offset, data_output{t.text}});
      } else if (t.kind == token_kind::variable_begin) {
        body.push_back({t.offset, output{parse_tuple()}});
        expect(token_kind::variable_end, "'}}'");
      } else {
        if (is_one_of(ends)) return body;
        body.push_back(parse_statement());
        expect(token_kind::block_end, "'%}'");
      }
    }
    if (ends.size() > 0) fail(fmt::format("the template ends before '{}'", *ends.begin()));
    return body;
  }

  /// The rest of an opening tag and the body behind it.
  statement_list parse_body(names ends) {
    skip_symbol(":");
    expect(token_kind::block_end, "'%}'");
    return parse_until(ends);
  }

  statement parse_statement() {
    if (current().kind != token_kind::name) fail("expected the name of a tag");
    const std::size_t offset = current().offset;
    const std::string tag = advance().text;
    if (tag == "if") return {offset, parse_if()};
    if (tag == "for") return {offset, parse_for()};
    if (tag == "set") return parse_set(offset);
    if (tag == "macro") return {offset, parse_macro()};
    if (tag == "call") return {offset, parse_call_block()};
    if (tag == "filter") return {offset, parse_filter_block()};
    if (tag == "with") return {offset, parse_with()};
    if (tag == "generation") {
      scope_statement scope{parse_body({"endgeneration"})};
      advance();
      return {offset, std::move(scope)};
    }
    if (tag == "break" || tag == "continue") {
      if (loops_ == 0) fail(fmt::format("'{}' stands outside of a loop", tag));
      if (tag == "break") return {offset, break_statement{}};
      return {offset, continue_statement{}};
    }
    for (const std::string_view other :
         {"block", "extends", "include", "import", "from", "autoescape", "do", "trans", "debug"})
      if (tag == other)
        throw failure{errc::unsupported, fmt::format("the tag '{}' is not supported", tag), offset};
    throw failure{errc::invalid_argument, fmt::format("unexpected tag '{}'", tag), offset};
  }

  if_statement parse_if() {
    ++conditional_;
    if_statement chain;
    while (true) {
      expression_ptr condition = parse_tuple(false);
      chain.branches.push_back({std::move(condition), parse_body({"elif", "else", "endif"})});
      const std::string tag = advance().text;
      if (tag == "elif") continue;
      if (tag == "else") {
        chain.otherwise = parse_body({"endif"});
        advance();
      }
      --conditional_;
      return chain;
    }
  }

  for_statement parse_for() {
    for_statement loop;
    loop.variable = parse_target(false);
    if (!skip_name("in")) fail("expected 'in'");
    loop.iterable = parse_tuple(false);
    if (skip_name("if")) loop.condition = parse_expression();
    if (is_name("recursive")) fail("recursive loops are not supported", errc::unsupported);
    ++loops_;
    loop.body = parse_body({"endfor", "else"});
    --loops_;
    if (advance().text == "else") {
      loop.otherwise = parse_body({"endfor"});
      advance();
    }
    return loop;
  }

  statement parse_set(std::size_t offset) {
    target variable = parse_target(true);
    if (skip_symbol("=")) return {offset, set_statement{std::move(variable), parse_tuple()}};
    set_block block{std::move(variable), nullptr, {}};
    if (is_symbol("|"))
      block.filters = parse_filters(make(offset, name_reference{std::string(body_name)}));
    block.body = parse_body({"endset"});
    advance();
    return {offset, std::move(block)};
  }

  filter_block parse_filter_block() {
    const std::size_t offset = current().offset;
    filter_block block;
    block.filters = parse_filters(make(offset, name_reference{std::string(body_name)}), true);
    block.body = parse_body({"endfilter"});
    advance();
    return block;
  }

  with_statement parse_with() {
    with_statement with;
    while (current().kind != token_kind::block_end) {
      if (!with.variables.empty()) expect_symbol(",");
      target variable = parse_target(false);
      expect_symbol("=");
      with.variables.emplace_back(std::move(variable), parse_expression());
    }
    with.body = parse_body({"endwith"});
    advance();
    return with;
  }

  macro_statement parse_macro() {
    auto macro = std::make_unique<macro_definition>();
    macro->name = parse_variable();
    parse_parameters(*macro);
    parse_macro_body(*macro, {"endmacro"});
    return {std::move(macro)};
  }

  call_statement parse_call_block() {
    call_statement block{std::make_unique<macro_definition>(), nullptr};
    block.caller->name = "caller";
    if (is_symbol("(")) parse_parameters(*block.caller);
    block.callee = parse_expression();
    if (!std::holds_alternative<call>(block.callee->form)) fail("expected a call");
    parse_macro_body(*block.caller, {"endcall"});
    return block;
  }

  void parse_parameters(macro_definition& macro) {
    expect_symbol("(");
    while (!is_symbol(")")) {
      if (!macro.parameters.empty()) expect_symbol(",");
      if (is_symbol(")") && !macro.parameters.empty()) break;
      parameter p{parse_variable(), nullptr};
      if (skip_symbol("="))
        p.fallback = parse_expression();
      else if (!macro.parameters.empty() && macro.parameters.back().fallback)
        fail("a parameter without a default follows one that has one");
      for (const parameter& other : macro.parameters)
        if (other.name == p.name) fail(fmt::format("the parameter '{}' is given twice", p.name));
      macro.parameters.push_back(std::move(p));
    }
    advance();
  }

  void parse_macro_body(macro_definition& macro, names ends) {
    // break and continue do not reach through a macro, and each has its own special names.
    const int loops = std::exchange(loops_, 0);
    const special_names outside = std::exchange(seen_, {});
    macro.body = parse_body(ends);
    advance();
    macro.uses_caller = seen_.caller;
    macro.uses_varargs = seen_.varargs;
    macro.uses_kwargs = seen_.kwargs;
    seen_.caller |= outside.caller;
    seen_.varargs |= outside.varargs;
    seen_.kwargs |= outside.kwargs;
    loops_ = loops;
  }

  std::string parse_variable() {
    std::string name = expect_name();
    for (const std::string_view constant : {"true", "false", "none", "True", "False", "None"})
      if (name == constant) fail(fmt::format("cannot assign to '{}'", name));
    return name;
  }

  target parse_one_target(bool with_namespace) {
    const nesting guard(*this);
    target made;
    made.offset = current().offset;
    if (skip_symbol("(")) {
      made = parse_target(with_namespace);
      expect_symbol(")");
      return made;
    }
    made.name = parse_variable();
    if (with_namespace && skip_symbol(".")) made.attribute = expect_name();
    return made;
  }

  target parse_target(bool with_namespace) {
    target made;
    made.offset = current().offset;
    made.parts.push_back(parse_one_target(with_namespace));
    while (skip_symbol(",")) {
      made.is_tuple = true;
      if (is_name("in") || is_symbol(")") || is_symbol("=") ||
          current().kind == token_kind::block_end)
        break;
      made.parts.push_back(parse_one_target(with_namespace));
    }
    if (made.is_tuple) return made;
    target only = std::move(made.parts[0]);
    return only;
  }

  int loops_ = 0;
};

}  // namespace

statement_list parse_template(std::string_view source) {
  return template_parser(tokenize_template(source)).run();
}

}  // namespace quire::jinja
