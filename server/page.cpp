#include "server/page.hpp"

#include <fmt/format.h>

#include <string>
#include <string_view>

namespace quire {

// Written by server/page/embed.cmake.
extern const std::string_view page_html;
extern const std::string_view page_style;
extern const std::string_view page_script;

namespace {

void replace(std::string& text, std::string_view mark, std::string_view with) {
  const auto at = text.find(mark);
  if (at != std::string::npos) text.replace(at, mark.size(), with);
}

}  // namespace

http_reply page_reply() {
  const auto nonce = random_id();
  std::string document(page_html);
  replace(document, "<!-- style -->",
          fmt::format("<style nonce=\"{}\">\n{}</style>", nonce, page_style));
  replace(document, "<!-- script -->",
          fmt::format("<script nonce=\"{}\">\n{}</script>", nonce, page_script));
  http_reply reply;
  reply.content_type = "text/html; charset=utf-8";
  reply.body = std::move(document);
  reply.headers = {
      {"Cache-Control", "no-cache"},
      {"X-Content-Type-Options", "nosniff"},
      {"Referrer-Policy", "no-referrer"},
      {"Content-Security-Policy",
       fmt::format("default-src 'none'; style-src 'nonce-{0}'; script-src 'nonce-{0}'; "
                   "connect-src 'self'; img-src data:; base-uri 'none'; "
                   "form-action 'none'; frame-ancestors 'none'",
                   nonce)}};
  return reply;
}

}  // namespace quire
