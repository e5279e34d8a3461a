// The part of the evaluator that computes expressions; evaluator.cpp adds the statements.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "models/jinja/ast.hpp"
#include "models/jinja/value.hpp"

namespace quire::jinja {

/// The variables of one body. Lookups go on in the parent.
struct scope : heap_object {
  scope* parent = nullptr;
  std::vector<std::pair<std::string_view, value>> variables;
  bool captured = false;  ///< a macro refers to it, so it must not be reused

  /// Returns the variable or null, and counts the search as work.
  const value* find(runtime& rt, std::string_view name) const;
  void set(runtime& rt, std::string_view name, const value& item);
};

class expression_evaluator {
 public:
  explicit expression_evaluator(runtime& rt) : rt_(rt), scope_(rt.make<scope>()) {}

 protected:
  /// Bounds the recursion of evaluations and statements.
  class nesting {
   public:
    explicit nesting(expression_evaluator& e) : e_(e) {
      if (e_.depth_ >= e_.rt_.limits().depth) e_.rt_.fail_limit("recurses too deeply");
      ++e_.depth_;
    }
    ~nesting() { --e_.depth_; }
    nesting(const nesting&) = delete;
    nesting& operator=(const nesting&) = delete;

   private:
    expression_evaluator& e_;
  };

  value eval(const expression& e);
  arguments eval_arguments(const call_arguments& given);

  runtime& rt_;
  scope* scope_;

 private:
  std::vector<value> eval_all(const expression_list& list);
  value eval_form(const expression&, const text_literal& literal);
  value eval_form(const expression&, const constant& c);
  value eval_form(const expression&, const name_reference& reference);
  value eval_form(const expression&, const list_literal& list);
  value eval_form(const expression&, const tuple_literal& tuple);
  value eval_form(const expression& e, const dict_literal& dict);
  value eval_form(const expression& e, const unary& u);
  value eval_form(const expression& e, const binary& b);
  value eval_form(const expression&, const logical& l);
  value eval_form(const expression& e, const compare_chain& chain);
  bool compare(comparison op, const value& a, const value& b);
  value eval_form(const expression&, const concatenation& c);
  value eval_form(const expression&, const conditional& c);
  value eval_form(const expression& e, const attribute& a);
  value eval_form(const expression& e, const subscript& s);
  value eval_form(const expression& e, const slice& s);
  value eval_form(const expression& e, const call& c);
  value eval_form(const expression& e, const filter_use& use);
  value eval_form(const expression& e, const test_use& use);

  std::uint32_t depth_ = 0;
};

}  // namespace quire::jinja
