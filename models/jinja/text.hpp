// Text as Python's str sees it: code points, Unicode white space and case, over UTF-8 bytes.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace quire::jinja {

/// Returns the code point at byte `at` and moves `at` behind it. An invalid byte counts as one
/// point.
char32_t next_point(std::string_view text, std::size_t& at);

/// Appends a code point as UTF-8.
void append_point(std::string& text, char32_t point);

/// Returns the number of code points: len() of Python.
std::size_t num_points(std::string_view text);

/// Returns the byte offset of the code point with this index, at most text.size().
std::size_t point_offset(std::string_view text, std::size_t index);

/// Returns each code point as its own text.
std::vector<std::string_view> split_points(std::string_view text);

bool is_space(char32_t point);
bool is_alpha(char32_t point);
bool is_decimal(char32_t point);
bool is_upper(char32_t point);
bool is_lower(char32_t point);
/// Whether repr() shows the code point as it is.
bool is_printable(char32_t point);

/// Which ends strip() works on.
enum class strip_side { both, left, right };
/// Removes white space, or any of the code points of `chars`, from the ends.
std::string_view strip(std::string_view text, strip_side side,
                       std::optional<std::string_view> chars = {});

std::string upper(std::string_view text);
std::string lower(std::string_view text);
/// First code point in title case, the others lower: str.capitalize().
std::string capitalize(std::string_view text);
/// Every run of letters capitalized: str.title().
std::string title(std::string_view text);
std::string swap_case(std::string_view text);

/// Splits at runs of white space, at most `limit` times from the left or right: str.split().
std::vector<std::string_view> split_space(std::string_view text, std::size_t limit,
                                          bool from_right);
/// Splits at a separator that is not empty.
std::vector<std::string_view> split_at(std::string_view text, std::string_view separator,
                                       std::size_t limit, bool from_right);
/// Splits at line ends of any kind, which are dropped or kept: str.splitlines().
std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends);

/// Replaces up to `limit` occurrences; an empty `from` matches between all code points.
std::string replace(std::string_view text, std::string_view from, std::string_view to,
                    std::size_t limit);

/// Returns Python's repr() of a text, quotes included.
std::string repr(std::string_view text);

/// Returns Python's repr() of a float: shortest digits, exponent from 1e16 and below 1e-4.
std::string repr(double number);

/// Replaces & < > ' " by their HTML entities.
std::string escape_html(std::string_view text);

}  // namespace quire::jinja
