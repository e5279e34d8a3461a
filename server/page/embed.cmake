# Writes a .cpp that holds files as string_views: cmake -DOUT=x.cpp -DDIR=server/page -P embed.cmake
set(code "#include <string_view>\n\nnamespace quire {\n")
foreach(pair IN ITEMS "page_html:index.html" "page_style:style.css" "page_script:app.js")
  string(REPLACE ":" ";" pair "${pair}")
  list(GET pair 0 name)
  list(GET pair 1 file)
  file(READ "${DIR}/${file}" bytes HEX)
  string(LENGTH "${bytes}" digits)
  math(EXPR size "${digits} / 2")
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
  string(APPEND code "extern const std::string_view ${name};\n"
    "static constexpr unsigned char ${name}_bytes[] = {${bytes}};\n"
    "const std::string_view ${name}(reinterpret_cast<const char*>(${name}_bytes), ${size});\n")
endforeach()
string(APPEND code "}  // namespace quire\n")
file(WRITE "${OUT}" "${code}")
