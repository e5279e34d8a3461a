#include "models/jinja/expression_parser.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "models/jinja/builtins.hpp"

namespace quire::jinja {
namespace {

// Real templates nest less than 20 deep; both bounds keep the stack small on hostile ones.
constexpr std::uint32_t max_nesting = 100;
constexpr std::uint32_t max_depth = 300;

std::uint32_t depth_of(const expression_ptr& e) {
  return e ? e->depth : 0;
}

std::uint32_t deepest(const call_arguments& args) {
  std::uint32_t depth = std::max(depth_of(args.spread), depth_of(args.named_spread));
  for (const auto& [name, item] : args.named) depth = std::max(depth, depth_of(item));
  return std::max(depth, jinja::deepest(args.positional));
}

}  // namespace

std::uint32_t deepest(const expression_list& list) {
  std::uint32_t depth = 0;
  for (const expression_ptr& item : list) depth = std::max(depth, depth_of(item));
  return depth;
}

expression_parser::nesting::nesting(expression_parser& parser) : parser_(parser) {
  if (++parser_.nesting_ > max_nesting) {
    --parser_.nesting_;
    parser_.fail("the template is nested too deeply");
  }
}

void expression_parser::fail(std::string message, errc code) const {
  throw failure{code, std::move(message), current().offset};
}

template <class Form>
expression_ptr expression_parser::make(std::size_t offset, Form form, std::uint32_t depth_below) {
  if (depth_below >= max_depth) fail("the expression is nested too deeply");
  auto made = std::make_unique<expression>();
  made->offset = offset;
  made->depth = depth_below + 1;
  made->form = std::move(form);
  return made;
}
template expression_ptr expression_parser::make(std::size_t, name_reference, std::uint32_t);

const token& expression_parser::advance() {
  const token& t = tokens_[at_];
  if (t.kind != token_kind::end) ++at_;
  return t;
}

bool expression_parser::is_symbol(std::string_view symbol) const {
  return current().kind == token_kind::symbol && current().text == symbol;
}

bool expression_parser::is_name(std::string_view name) const {
  return current().kind == token_kind::name && current().text == name;
}

bool expression_parser::skip_symbol(std::string_view symbol) {
  if (!is_symbol(symbol)) return false;
  advance();
  return true;
}

bool expression_parser::skip_name(std::string_view name) {
  if (!is_name(name)) return false;
  advance();
  return true;
}

void expression_parser::expect_symbol(std::string_view symbol) {
  if (!skip_symbol(symbol)) fail(fmt::format("expected '{}'", symbol));
}

void expression_parser::expect(token_kind kind, std::string_view what) {
  if (current().kind != kind) fail(fmt::format("expected {}", what));
  advance();
}

std::string expression_parser::expect_name() {
  if (current().kind != token_kind::name) fail("expected a name");
  return advance().text;
}

expression_ptr expression_parser::parse_expression(bool with_conditional) {
  const nesting guard(*this);
  expression_ptr left = parse_or();
  while (with_conditional && is_name("if")) {
    const std::size_t offset = advance().offset;
    ++conditional_;
    expression_ptr condition = parse_or();
    expression_ptr otherwise = skip_name("else") ? parse_expression() : nullptr;
    --conditional_;
    const std::uint32_t depth =
        std::max({depth_of(left), depth_of(condition), depth_of(otherwise)});
    left = make(offset, conditional{std::move(condition), std::move(left), std::move(otherwise)},
                depth);
  }
  return left;
}

expression_ptr expression_parser::parse_or() {
  expression_ptr left = parse_and();
  while (is_name("or")) {
    const std::size_t offset = advance().offset;
    expression_ptr right = parse_and();
    const std::uint32_t depth = std::max(left->depth, right->depth);
    left = make(offset, logical{false, std::move(left), std::move(right)}, depth);
  }
  return left;
}

expression_ptr expression_parser::parse_and() {
  expression_ptr left = parse_not();
  while (is_name("and")) {
    const std::size_t offset = advance().offset;
    expression_ptr right = parse_not();
    const std::uint32_t depth = std::max(left->depth, right->depth);
    left = make(offset, logical{true, std::move(left), std::move(right)}, depth);
  }
  return left;
}

expression_ptr expression_parser::parse_not() {
  if (!is_name("not")) return parse_compare();
  const nesting guard(*this);
  const std::size_t offset = advance().offset;
  expression_ptr operand = parse_not();
  const std::uint32_t depth = operand->depth;
  return make(offset, unary{unary_operator::invert, std::move(operand)}, depth);
}

expression_ptr expression_parser::parse_compare() {
  constexpr std::pair<std::string_view, comparison> symbols[] = {
      {"==", comparison::eq}, {"!=", comparison::ne}, {"<", comparison::lt},
      {"<=", comparison::le}, {">", comparison::gt},  {">=", comparison::ge}};
  const std::size_t offset = current().offset;
  compare_chain chain{parse_sum(), {}};
  std::uint32_t depth = chain.first->depth;
  const auto add = [&](comparison op) {
    chain.rest.emplace_back(op, parse_sum());
    depth = std::max(depth, chain.rest.back().second->depth);
  };
  while (true) {
    const auto found = std::find_if(std::begin(symbols), std::end(symbols),
                                    [&](const auto& s) { return is_symbol(s.first); });
    if (found != std::end(symbols)) {
      advance();
      add(found->second);
    } else if (skip_name("in")) {
      add(comparison::in);
    } else if (is_name("not") && look().kind == token_kind::name && look().text == "in") {
      advance();
      advance();
      add(comparison::not_in);
    } else {
      break;
    }
  }
  if (chain.rest.empty()) return std::move(chain.first);
  return make(offset, std::move(chain), depth);
}

expression_ptr expression_parser::combine(binary_operator op, std::size_t offset,
                                          expression_ptr left, expression_ptr right) {
  const std::uint32_t depth = std::max(left->depth, right->depth);
  return make(offset, binary{op, std::move(left), std::move(right)}, depth);
}

expression_ptr expression_parser::parse_sum() {
  expression_ptr left = parse_concatenation();
  while (is_symbol("+") || is_symbol("-")) {
    const token& op = advance();
    left = combine(op.text == "+" ? binary_operator::add : binary_operator::subtract, op.offset,
                   std::move(left), parse_concatenation());
  }
  return left;
}

expression_ptr expression_parser::parse_concatenation() {
  const std::size_t offset = current().offset;
  concatenation joined;
  joined.parts.push_back(parse_product());
  while (skip_symbol("~")) joined.parts.push_back(parse_product());
  if (joined.parts.size() == 1) return std::move(joined.parts[0]);
  const std::uint32_t depth = jinja::deepest(joined.parts);
  return make(offset, std::move(joined), depth);
}

expression_ptr expression_parser::parse_product() {
  constexpr std::pair<std::string_view, binary_operator> symbols[] = {
      {"*", binary_operator::multiply},
      {"/", binary_operator::divide},
      {"//", binary_operator::floor_divide},
      {"%", binary_operator::modulo}};
  expression_ptr left = parse_power();
  while (true) {
    const auto found = std::find_if(std::begin(symbols), std::end(symbols),
                                    [&](const auto& s) { return is_symbol(s.first); });
    if (found == std::end(symbols)) return left;
    const std::size_t offset = advance().offset;
    left = combine(found->second, offset, std::move(left), parse_power());
  }
}

expression_ptr expression_parser::parse_power() {
  expression_ptr left = parse_unary();
  while (is_symbol("**")) {
    const std::size_t offset = advance().offset;
    left = combine(binary_operator::power, offset, std::move(left), parse_unary());
  }
  return left;
}

expression_ptr expression_parser::parse_unary(bool with_filters) {
  expression_ptr node;
  if (is_symbol("-") || is_symbol("+")) {
    const nesting guard(*this);
    const token& sign = advance();
    const unary_operator op = sign.text == "-" ? unary_operator::negate : unary_operator::plus;
    expression_ptr operand = parse_unary(false);
    const std::uint32_t depth = operand->depth;
    node = make(sign.offset, unary{op, std::move(operand)}, depth);
  } else {
    node = parse_primary();
  }
  node = parse_postfix(std::move(node));
  return with_filters ? parse_filters_and_tests(std::move(node)) : std::move(node);
}

expression_ptr expression_parser::parse_primary() {
  const token& t = current();
  switch (t.kind) {
    case token_kind::name: {
      advance();
      if (t.text == "true" || t.text == "True") return make(t.offset, constant{true});
      if (t.text == "false" || t.text == "False") return make(t.offset, constant{false});
      if (t.text == "none" || t.text == "None") return make(t.offset, constant{none{}});
      seen_.caller |= t.text == "caller";
      seen_.varargs |= t.text == "varargs";
      seen_.kwargs |= t.text == "kwargs";
      return make(t.offset, name_reference{t.text});
    }
    case token_kind::string: {
      text_literal joined;
      while (current().kind == token_kind::string) joined.text += advance().text;
      return make(t.offset, std::move(joined));
    }
    case token_kind::integer:
      advance();
      return make(t.offset, constant{t.integer});
    case token_kind::real:
      advance();
      return make(t.offset, constant{t.real});
    case token_kind::symbol:
      if (t.text == "[") return parse_list();
      if (t.text == "{") return parse_dict();
      if (t.text == "(") {
        advance();
        expression_ptr inner = parse_tuple(true, true);
        expect_symbol(")");
        return inner;
      }
      fail(fmt::format("unexpected '{}'", t.text));
    default:
      fail("expected an expression");
  }
}

bool expression_parser::is_tuple_end() const {
  return current().kind == token_kind::variable_end || current().kind == token_kind::block_end ||
         is_symbol(")") || is_name("recursive");
}

expression_ptr expression_parser::parse_tuple(bool with_conditional, bool in_parentheses) {
  const nesting guard(*this);
  const std::size_t offset = current().offset;
  expression_list items;
  bool is_tuple = false;
  while (true) {
    if (!items.empty()) expect_symbol(",");
    if (is_tuple_end()) break;
    items.push_back(parse_expression(with_conditional));
    if (!is_symbol(",")) break;
    is_tuple = true;
  }
  if (!is_tuple && !items.empty()) return std::move(items[0]);
  if (!is_tuple && !in_parentheses) fail("expected an expression");
  const std::uint32_t depth = jinja::deepest(items);
  return make(offset, tuple_literal{std::move(items)}, depth);
}

expression_ptr expression_parser::parse_list() {
  const std::size_t offset = advance().offset;
  list_literal list;
  while (!is_symbol("]")) {
    if (!list.items.empty()) expect_symbol(",");
    if (is_symbol("]")) break;
    list.items.push_back(parse_expression());
  }
  advance();
  const std::uint32_t depth = jinja::deepest(list.items);
  return make(offset, std::move(list), depth);
}

expression_ptr expression_parser::parse_dict() {
  const std::size_t offset = advance().offset;
  dict_literal dict;
  std::uint32_t depth = 0;
  while (!is_symbol("}")) {
    if (!dict.items.empty()) expect_symbol(",");
    if (is_symbol("}")) break;
    expression_ptr key = parse_expression();
    expect_symbol(":");
    expression_ptr item = parse_expression();
    depth = std::max({depth, key->depth, item->depth});
    dict.items.emplace_back(std::move(key), std::move(item));
  }
  advance();
  return make(offset, std::move(dict), depth);
}

expression_ptr expression_parser::parse_postfix(expression_ptr object) {
  while (true) {
    if (is_symbol("."))
      object = parse_dot(std::move(object));
    else if (is_symbol("["))
      object = parse_brackets(std::move(object));
    else if (is_symbol("("))
      object = parse_call(std::move(object));
    else
      return object;
  }
}

expression_ptr expression_parser::parse_filters_and_tests(expression_ptr input) {
  while (true) {
    if (is_symbol("|"))
      input = parse_filters(std::move(input));
    else if (is_name("is"))
      input = parse_test(std::move(input));
    else if (is_symbol("("))
      input = parse_call(std::move(input));
    else
      return input;
  }
}

expression_ptr expression_parser::parse_dot(expression_ptr object) {
  const std::size_t offset = advance().offset;
  const std::uint32_t depth = object->depth;
  const token& name = current();
  if (name.kind == token_kind::name) {
    advance();
    return make(offset, attribute{std::move(object), name.text}, depth);
  }
  if (name.kind != token_kind::integer) fail("expected a name or a number after '.'");
  advance();
  return make(offset, subscript{std::move(object), make(name.offset, constant{name.integer})},
              depth + 1);
}

expression_ptr expression_parser::parse_brackets(expression_ptr object) {
  const std::size_t offset = advance().offset;
  expression_ptr start;
  if (!is_symbol(":")) start = parse_tuple(true, is_symbol("]"));
  std::uint32_t depth = std::max(object->depth, depth_of(start));
  if (!is_symbol(":")) {
    expect_symbol("]");
    return make(offset, subscript{std::move(object), std::move(start)}, depth);
  }
  slice cut{std::move(object), std::move(start), nullptr, nullptr};
  advance();
  if (!is_symbol(":") && !is_symbol("]")) cut.stop = parse_expression();
  if (skip_symbol(":") && !is_symbol("]")) cut.step = parse_expression();
  if (is_symbol(",")) fail("slices of several dimensions are not supported", errc::unsupported);
  expect_symbol("]");
  depth = std::max({depth, depth_of(cut.stop), depth_of(cut.step)});
  return make(offset, std::move(cut), depth);
}

call_arguments expression_parser::parse_call_arguments() {
  call_arguments args;
  bool needs_comma = false;
  expect_symbol("(");
  const auto refuse_after = [&](bool wrong) {
    if (wrong) fail("this argument cannot stand after the one before it");
  };
  while (!is_symbol(")")) {
    if (needs_comma) expect_symbol(",");
    if (is_symbol(")")) break;
    needs_comma = true;
    if (skip_symbol("*")) {
      refuse_after(args.spread || args.named_spread);
      args.spread = parse_expression();
    } else if (skip_symbol("**")) {
      refuse_after(args.named_spread != nullptr);
      args.named_spread = parse_expression();
    } else if (current().kind == token_kind::name && look().kind == token_kind::symbol &&
               look().text == "=") {
      refuse_after(args.named_spread != nullptr);
      std::string name = advance().text;
      advance();
      for (const auto& given : args.named)
        if (given.first == name) fail(fmt::format("the argument '{}' is given twice", name));
      args.named.emplace_back(std::move(name), parse_expression());
    } else {
      refuse_after(args.spread || args.named_spread || !args.named.empty());
      args.positional.push_back(parse_expression());
    }
  }
  advance();
  return args;
}

expression_ptr expression_parser::parse_call(expression_ptr callee) {
  const std::size_t offset = callee->offset;
  call made{std::move(callee), parse_call_arguments()};
  const std::uint32_t depth = std::max(made.callee->depth, deepest(made.args));
  return make(offset, std::move(made), depth);
}

expression_ptr expression_parser::parse_filters(expression_ptr input, bool starts_with_name) {
  while (starts_with_name || is_symbol("|")) {
    if (!starts_with_name) advance();
    starts_with_name = false;
    const std::size_t offset = current().offset;
    filter_use use{std::move(input), current().text, nullptr, {}};
    use.function = find_filter(use.name);
    if (current().kind == token_kind::name && !use.function && conditional_ == 0)
      fail(fmt::format("there is no filter '{}'", use.name), errc::unsupported);
    expect_name();
    if (is_symbol("(")) use.args = parse_call_arguments();
    const std::uint32_t depth = std::max(use.input->depth, deepest(use.args));
    input = make(offset, std::move(use), depth);
  }
  return input;
}

expression_ptr expression_parser::parse_test(expression_ptr input) {
  advance();
  const bool negated = skip_name("not");
  const std::size_t offset = current().offset;
  test_use use{std::move(input), current().text, nullptr, {}};
  use.function = find_test(use.name);
  if (current().kind == token_kind::name && !use.function && conditional_ == 0)
    fail(fmt::format("there is no test '{}'", use.name), errc::unsupported);
  expect_name();
  const token& t = current();
  const bool is_argument =
      t.kind == token_kind::string || t.kind == token_kind::integer || t.kind == token_kind::real ||
      is_symbol("[") || is_symbol("{") ||
      (t.kind == token_kind::name && t.text != "else" && t.text != "or" && t.text != "and");
  if (is_symbol("(")) {
    use.args = parse_call_arguments();
  } else if (is_argument) {
    if (is_name("is")) fail("tests cannot be chained with 'is'");
    use.args.positional.push_back(parse_postfix(parse_primary()));
  }
  const std::uint32_t depth = std::max(use.input->depth, deepest(use.args));
  expression_ptr made = make(offset, std::move(use), depth);
  if (!negated) return made;
  return make(offset, unary{unary_operator::invert, std::move(made)}, depth + 1);
}

}  // namespace quire::jinja
