// The syntax tree of a template. Plain data: the parser builds it, the evaluator walks it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "models/jinja/value.hpp"

namespace quire::jinja {

struct expression;
struct statement;
using expression_ptr = std::unique_ptr<expression>;
using expression_list = std::vector<expression_ptr>;
using statement_list = std::vector<statement>;

using filter_function = value (*)(runtime&, const value&, const arguments&);
using test_function = bool (*)(runtime&, const value&, const arguments&);

struct call_arguments {
  expression_list positional;
  std::vector<std::pair<std::string, expression_ptr>> named;
  expression_ptr spread;        ///< *list, or null
  expression_ptr named_spread;  ///< **dict, or null
};

struct text_literal {
  std::string text;
};
struct constant {
  value v;
};  ///< none, a boolean or a number
struct name_reference {
  std::string name;
};
struct list_literal {
  expression_list items;
};
struct tuple_literal {
  expression_list items;
};
struct dict_literal {
  std::vector<std::pair<expression_ptr, expression_ptr>> items;
};
enum class unary_operator : std::uint8_t { negate, plus, invert };
struct unary {
  unary_operator op;
  expression_ptr operand;
};
enum class binary_operator : std::uint8_t {
  add,
  subtract,
  multiply,
  divide,
  floor_divide,
  modulo,
  power
};
struct binary {
  binary_operator op;
  expression_ptr left, right;
};
struct logical {
  bool is_and;
  expression_ptr left, right;
};
enum class comparison : std::uint8_t { eq, ne, lt, le, gt, ge, in, not_in };
struct compare_chain {
  expression_ptr first;
  std::vector<std::pair<comparison, expression_ptr>> rest;
};
struct concatenation {
  expression_list parts;
};
struct conditional {
  expression_ptr condition, then, otherwise;
};  ///< otherwise may be null
struct attribute {
  expression_ptr object;
  std::string name;
};
struct subscript {
  expression_ptr object, index;
};
struct slice {
  expression_ptr object, start, stop, step;
};  ///< bounds may be null
struct call {
  expression_ptr callee;
  call_arguments args;
};
/// The function is null for a name that is unknown; using it is an error, as it is in Jinja when
/// the filter stands in a branch that may not be taken.
struct filter_use {
  expression_ptr input;
  std::string name;
  filter_function function;
  call_arguments args;
};
struct test_use {
  expression_ptr input;
  std::string name;
  test_function function;
  call_arguments args;
};

struct expression {
  std::size_t offset = 0;
  std::uint32_t depth = 1;  ///< of the tree below, so that walking it needs no more stack than that
  std::variant<text_literal, constant, name_reference, list_literal, tuple_literal, dict_literal,
               unary, binary, logical, compare_chain, concatenation, conditional, attribute,
               subscript, slice, call, filter_use, test_use>
      form;
};

/// Where an assignment goes: a name, an attribute of a namespace, or a tuple of such.
struct target {
  std::size_t offset = 0;
  std::string name;
  std::string attribute;      ///< of the namespace `name`; empty: the variable itself
  std::vector<target> parts;  ///< of a tuple; then `name` is empty
  bool is_tuple = false;
};

struct parameter {
  std::string name;
  expression_ptr fallback;
};  ///< fallback may be null

struct macro_definition {
  std::string name;
  std::vector<parameter> parameters;
  statement_list body;
  bool uses_caller = false;
  bool uses_varargs = false;
  bool uses_kwargs = false;
};

struct output {
  expression_ptr value;
};
struct data_output {
  std::string text;
};
struct if_branch {
  expression_ptr condition;
  statement_list body;
};
struct if_statement {
  std::vector<if_branch> branches;
  statement_list otherwise;
};
struct for_statement {
  target variable;
  expression_ptr iterable;
  expression_ptr condition;  ///< may be null
  statement_list body;
  statement_list otherwise;
};
struct set_statement {
  target variable;
  expression_ptr value;
};
/// {% set x | filter %}...{% endset %}; `filters` takes the name `body_name` as its input.
struct set_block {
  target variable;
  expression_ptr filters;
  statement_list body;
};
struct filter_block {
  expression_ptr filters;
  statement_list body;
};
struct with_statement {
  std::vector<std::pair<target, expression_ptr>> variables;
  statement_list body;
};
struct macro_statement {
  std::unique_ptr<macro_definition> macro;
};
struct call_statement {
  std::unique_ptr<macro_definition> caller;
  expression_ptr callee;
};
/// A body with variables of its own: {% generation %}.
struct scope_statement {
  statement_list body;
};
struct break_statement {};
struct continue_statement {};

struct statement {
  std::size_t offset = 0;
  std::variant<output, data_output, if_statement, for_statement, set_statement, set_block,
               filter_block, with_statement, macro_statement, call_statement, scope_statement,
               break_statement, continue_statement>
      form;
};

/// The name by which the filters of a block refer to the block's text; no template can spell it.
inline constexpr std::string_view body_name = "{body}";

}  // namespace quire::jinja
