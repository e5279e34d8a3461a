// The part of the parser that reads expressions; parser.cpp adds the statements.
#pragma once

#include <initializer_list>
#include <string_view>
#include <vector>

#include "models/jinja/ast.hpp"
#include "models/jinja/lexer.hpp"

namespace quire::jinja {

class expression_parser {
 public:
  explicit expression_parser(std::vector<token> tokens) : tokens_(std::move(tokens)) {}

 protected:
  /// Bounds the recursion of the parser on hostile input.
  class nesting {
   public:
    explicit nesting(expression_parser& parser);
    ~nesting() { --parser_.nesting_; }
    nesting(const nesting&) = delete;
    nesting& operator=(const nesting&) = delete;

   private:
    expression_parser& parser_;
  };

  [[noreturn]] void fail(std::string message, errc code = errc::invalid_argument) const;

  const token& current() const { return tokens_[at_]; }
  const token& look() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  const token& advance();
  bool is_symbol(std::string_view symbol) const;
  bool is_name(std::string_view name) const;
  bool skip_symbol(std::string_view symbol);
  bool skip_name(std::string_view name);
  void expect_symbol(std::string_view symbol);
  void expect(token_kind kind, std::string_view what);
  std::string expect_name();

  expression_ptr parse_expression(bool with_conditional = true);
  /// One expression, or several with commas, which make a tuple.
  expression_ptr parse_tuple(bool with_conditional = true, bool in_parentheses = false);
  expression_ptr parse_filters(expression_ptr input, bool starts_with_name = false);
  call_arguments parse_call_arguments();

  /// Names that mean something inside of a macro were seen since these were reset.
  struct special_names {
    bool caller = false;
    bool varargs = false;
    bool kwargs = false;
  };
  special_names seen_;
  /// Inside of an if or of `a if b else c`, where unknown filters only fail once they are used.
  int conditional_ = 0;

  template <class Form>
  expression_ptr make(std::size_t offset, Form form, std::uint32_t depth_below = 0);

 private:
  expression_ptr parse_or();
  expression_ptr parse_and();
  expression_ptr parse_not();
  expression_ptr parse_compare();
  expression_ptr parse_sum();
  expression_ptr parse_concatenation();
  expression_ptr parse_product();
  expression_ptr parse_power();
  expression_ptr parse_unary(bool with_filters = true);
  expression_ptr parse_primary();
  expression_ptr parse_list();
  expression_ptr parse_dict();
  expression_ptr parse_postfix(expression_ptr object);
  expression_ptr parse_filters_and_tests(expression_ptr input);
  expression_ptr parse_dot(expression_ptr object);
  expression_ptr parse_brackets(expression_ptr object);
  expression_ptr parse_call(expression_ptr callee);
  expression_ptr parse_test(expression_ptr input);
  expression_ptr combine(binary_operator op, std::size_t offset, expression_ptr left,
                         expression_ptr right);
  bool is_tuple_end() const;

  std::vector<token> tokens_;
  std::size_t at_ = 0;
  std::uint32_t nesting_ = 0;
};

/// Returns the deepest tree of a list.
std::uint32_t deepest(const expression_list& list);

}  // namespace quire::jinja
