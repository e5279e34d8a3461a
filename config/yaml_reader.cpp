#include "config/yaml_reader.hpp"

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <set>

namespace quire {
namespace {

class reader {
 public:
  explicit reader(std::string_view name) : name_(name) {}

  void read(std::string_view text) {
    try {
      const std::vector<YAML::Node> documents = YAML::LoadAll(std::string(text));
      if (documents.empty() || (documents.size() == 1 && documents[0].IsNull())) return;
      if (documents.size() > 1)
        report(documents[1].Mark(), "the file holds more than one document");
      if (documents[0].IsMap())
        read_group("", documents[0]);
      else
        report(documents[0].Mark(), "expects groups of keys, such as \"server:\"");
    } catch (const YAML::Exception& e) {
      report(e.mark, "malformed YAML: " + e.msg);
    } catch (const std::exception& e) {
      report(YAML::Mark::null_mark(), std::string("malformed YAML: ") + e.what());
    }
  }

  std::vector<yaml_item> items;

 private:
  std::string place(const YAML::Mark& mark) const {
    if (mark.is_null()) return fmt::format("{}:1:1", name_);
    return fmt::format("{}:{}:{}", name_, mark.line + 1, mark.column + 1);
  }

  void report(const YAML::Mark& mark, std::string problem) {
    items.push_back({nullptr, {}, place(mark), std::move(problem)});
  }

  static bool is_group(const std::string& path) {
    return std::any_of(config_keys().begin(), config_keys().end(), [&](const config_key& key) {
      return key.name.size() > path.size() && key.name.starts_with(path) &&
             key.name[path.size()] == '.';
    });
  }

  void read_group(const std::string& group, const YAML::Node& node) {
    std::set<std::string> seen;
    for (const auto& entry : node) {
      if (!entry.first.IsScalar()) {
        report(entry.first.Mark(), "a key must be a plain name");
        continue;
      }
      const std::string& name = entry.first.Scalar();
      const std::string path = group.empty() ? name : group + "." + name;
      if (!seen.insert(name).second)
        report(entry.first.Mark(), path + ": is given twice");
      else if (const config_key* key = find_config_key(path))
        read_value(*key, entry.second);
      else if (!is_group(path))
        report(entry.first.Mark(), unknown_key(group, path));
      else if (entry.second.IsMap())
        read_group(path, entry.second);
      else if (!entry.second.IsNull())
        report(entry.second.Mark(), path + ": expects a group of keys");
    }
  }

  static std::string unknown_key(const std::string& group, const std::string& path) {
    const std::string nearest = nearest_key_name(path);
    if (!nearest.empty()) return fmt::format("{}: unknown key; did you mean {}?", path, nearest);
    if (group.empty()) return path + ": unknown group";
    return fmt::format("{}: unknown key; {} has {}", path, group, members(group));
  }

  static std::string members(const std::string& group) {
    std::vector<std::string> names;
    for (const config_key& key : config_keys()) {
      if (!key.name.starts_with(group + ".")) continue;
      const std::string_view rest = key.name.substr(group.size() + 1);
      std::string name(rest.substr(0, rest.find('.')));
      if (names.empty() || names.back() != name) names.push_back(std::move(name));
    }
    return fmt::format("{}", fmt::join(names, ", "));
  }

  void read_value(const config_key& key, const YAML::Node& node) {
    const auto refuse = [&](std::string_view got) {
      report(node.Mark(), fmt::format("{}: expects {}, got {}", key.name, expectation(key), got));
    };
    if (node.IsScalar()) {
      // yaml-cpp tags quoted scalars "!": those are texts, whatever they spell.
      if (node.Tag() == "!" && !takes_text(key))
        return refuse("the text \"" + node.Scalar() + "\"");
      if (takes_list(key)) return refuse("a single value; write [" + node.Scalar() + "]");
      items.push_back({&key, node.Scalar(), place(node.Mark()), {}});
    } else if (node.IsSequence()) {
      std::vector<std::string> values;
      for (const YAML::Node& item : node) {
        if (!item.IsScalar()) return refuse("a list that holds something else");
        values.push_back(item.Scalar());
      }
      items.push_back({&key, std::move(values), place(node.Mark()), {}});
    } else {
      refuse(node.IsMap() ? "a group of keys" : "no value");
    }
  }

  static bool takes_list(const config_key& key) {
    quire_options options;
    return std::holds_alternative<std::vector<std::string>*>(key.field(options));
  }

  static bool takes_text(const config_key& key) {
    quire_options options;
    const config_field field = key.field(options);
    return takes_list(key) || !key.choices.empty() || std::holds_alternative<std::string*>(field);
  }

  std::string name_;
};

}  // namespace

std::vector<yaml_item> read_yaml(std::string_view text, std::string_view name) {
  reader yaml(name);
  yaml.read(text);
  return std::move(yaml.items);
}

}  // namespace quire
