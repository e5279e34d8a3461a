"""Small templates, one feature each: (name, template, variables)."""

PERSON = {"name": "Ada", "age": 36, "tags": ["x", "y"], "address": {"city": "London"}}
PEOPLE = [{"name": "Bob", "age": 5, "ok": True}, {"name": "ann", "age": 31, "ok": False},
          {"name": "Cid", "age": 5, "ok": True}]

SNIPPETS = []


def add(group, *cases, **variables):
    for number, case in enumerate(cases, 1):
        SNIPPETS.append((f"{group} {number}", case, variables))


add("whitespace",
    "a\n  {% if true %}\n  b\n  {% endif %}\nc\n",
    "a\n  {%- if true -%}\n  b\n  {%- endif -%}\nc\n",
    "a\n  {%+ if true +%}\n  b\n  {%+ endif +%}\nc\n\n",
    "  {{ 1 }}  \n  {{- 2 -}}  \n  {{ 3 }}\n",
    "x  {% set a = 1 %}  y\n",
    "{# one #}\n{# two -#}\n   three {#- four #}\n\n",
    "line\r\nnext\rlast {% if 1 %}\r\nin{% endif %}\r\n",
    "   {% if 1 %}   {% if 1 %}\n   z{% endif %}{% endif %}   ",
    "\n\n{% for i in [1,2] %}\n\t {% if i %}\n {{ i }}\n\t {% endif %}\n{% endfor %}\n\n",
    "{% raw %}\n {{ not }} {% this %} {# that #}\n {% endraw %}\n after",
    "a {%- raw -%}  {{ x }}  {%- endraw -%}  b",
    "{%- set x = 'v' -%}\n\n\n{{- x }}\n{#- c -#}\n\n{{ x -}}\n\nend",
    "{{ '}}' }}{{ {'a': {'b': 1}}['a']['b'] }}{% if '%}' %}ok{% endif %}",
    "a{# {{ b }} {% c %} #}d", "tail\n", "tail\n\n", "", "\n", "{", "{ % }", "a { b } c {",
    "\u3000\xa0{% if 1 %}x{% endif %}", "x \u2003{{- 1 }}")

add("literals",
    "{{ 'a\\nb\\t\\'\\\\\\x41\\u00e9\\U0001F600\\q\\101' }}", "{{ \"it's\" }}{{ 'say \"x\"' }}",
    "{{ 'a' 'b' \"c\" }}", "{{ 1_000 }} {{ 0x1F }} {{ 0o17 }} {{ 0b101 }} {{ 1e3 }} {{ 2.50 }} {{ 1.5e-7 }}",
    "{{ [1, 'a', none, true, 2.0, [], {}, (), (1,), (1, 2)] }}", "{{ {'a': 1, 2: 'b', none: [1]} }}",
    "{{ true }} {{ True }} {{ false }} {{ None }} {{ none }}", "{{ () }}{{ [] }}{{ {} }}",
    "{{ 1, 2 }}", "{{ [1, 2,] }}{{ {'a': 1,} }}{{ (1,2,) }}", "{{ 'multi\nline' }}",
    "{{ 1.0 }} {{ 1e16 }} {{ 1e15 }} {{ 123456789012345680.0 }} {{ 0.0001 }} {{ 0.00001 }} {{ 1/3 }} {{ -0.0 }}",
    "{{ 100000000000000000000.0 }} {{ 5e-324 }} {{ 1.7976931348623157e308 }}",
    "{{ ['it\\'s', 'tab\\t', 'nl\\n', 'q\"', 'é', '\\x00', '\\u200b', '\\U0001F600', '\\\\'] }}")

add("arithmetic",
    "{{ 7 + 3 * 2 - 1 }}", "{{ 7 / 2 }} {{ 8 / 2 }}", "{{ 7 // 2 }} {{ -7 // 2 }} {{ 7 // -2 }} {{ -7.5 // 2 }}",
    "{{ 7 % 3 }} {{ -7 % 3 }} {{ 7 % -3 }} {{ -7.5 % 2 }} {{ 7.5 % -2 }}", "{{ 2 ** 10 }} {{ 2 ** -1 }} {{ 2 ** 0.5 }} {{ 2 ** 3 ** 2 }}",
    "{{ -2 ** 2 }} {{ -(2 ** 2) }} {{ +5 }} {{ - -5 }}", "{{ 'ab' * 3 }} {{ 3 * 'ab' }} {{ [1, 2] * 2 }} {{ 'x' * -1 }}|",
    "{{ 'a' + 'b' }} {{ [1] + [2, 3] }} {{ (1,) + (2,) }}", "{{ true + 1 }} {{ true * 'x' }} {{ 1.5 + 1 }} {{ false / 2 }}",
    "{{ 1 ~ 'a' ~ none ~ 2.0 ~ [1] ~ true }}", "{{ 1 + 2 ~ 3 + 4 }}", "{{ 10 - 2 - 3 }} {{ 100 / 5 / 2 }}",
    "{{ 0.1 + 0.2 }} {{ 1e300 * 10 }} {{ 3 * 1.1 }}", "{{ (1 + 2) * 3 }}",
    "{{ 1 / 0 }}", "{{ 1 // 0 }}", "{{ 1.0 % 0 }}", "{{ 'a' + 1 }}", "{{ 1 + none }}", "{{ [] - [] }}",
    "{{ '%s is %d%%, %.2f, %5d|%-5s|%05d, %x %X %o, %r, %e %g' % ('a', 50, 1.234, 42, 'l', -42, 255, 255, 8, 'q', 12345.678, 0.00001) }}",
    "{{ '%s' % 'x' }} {{ '%s %s' % (1, [2]) }} {{ '%(a)s-%(b)03d' % {'a': 'k', 'b': 7} }} {{ '%+d % d %c%c' % (5, 5, 'x', 65) }}",
    "{{ '%s' % (1, 2) }}", "{{ '%d' % 'x' }}", "{{ '%s %s' % 'x' }}", "{{ '%5.1f|%-8.3s|%+.1e' % (3.14159, 'abcdef', 123456) }}")

add("comparisons",
    "{{ 1 < 2 }} {{ 2 <= 2 }} {{ 3 > 4 }} {{ 1 == 1.0 }} {{ 1 != '1' }} {{ true == 1 }}",
    "{{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 1 == 1 != 2 }}", "{{ 'a' < 'b' }} {{ 'é' > 'z' }} {{ [1, 2] < [1, 3] }} {{ (1,) < (1, 0) }}",
    "{{ 'a' in 'cat' }} {{ 'x' not in 'cat' }} {{ 1 in [1, 2] }} {{ 'k' in {'k': 0} }} {{ 3 not in (1, 2) }} {{ '' in '' }}",
    "{{ [1, [2]] == [1, [2]] }} {{ {'a': 1, 'b': 2} == {'b': 2, 'a': 1} }} {{ (1,) == [1] }} {{ none == none }} {{ missing == gone }}",
    "{{ not true }} {{ not '' }} {{ not 0 and 1 }} {{ 0 or 'x' }} {{ 'a' and 'b' }} {{ none or false or [] }}",
    "{{ 1 if true else 2 }} {{ 1 if false else 2 }} {{ 'x' if false }}| {{ 1 if 0 else 2 if 0 else 3 }}",
    "{{ not 1 in [2] }} {{ 1 if 'a' in 'b' else 2 }}", "{{ 1 < 'a' }}", "{{ none < 1 }}", "{{ {} < {} }}", "{{ 1 in 'a' }}", "{{ 1 in 5 }}",
    "{{ 'a' if x is defined and x.y else 'b' }}", "{{ 2 == 2 and 3 == 3 or 1 / 0 }}")

add("names and attributes",
    "{{ p.name }} {{ p['age'] }} {{ p.tags[0] }} {{ p.tags[-1] }} {{ p.tags.1 }} {{ p.address.city }} {{ p['address']['city'] }}",
    "{{ p.missing }}|{{ p['missing'] }}|{{ p.tags[9] }}|{{ none.x }}|{{ 5.x }}|", "{{ q }}|{{ q is defined }}|{{ q|default('d') }}",
    "{{ p.items() }}{{ p.keys() }}{{ p.values()|list }}", "{{ p.get('name') }} {{ p.get('zz') }} {{ p.get('zz', 3) }}",
    "{{ 'abc'[0] }}{{ 'abc'[-1] }}{{ 'äöü'[1] }}|{{ 'abc'[5] }}|", "{{ p['items'] is defined }}{{ p.copy() }}",
    "{{ 'abc'[1:] }} {{ 'abc'[:-1] }} {{ 'abc'[::-1] }} {{ [1,2,3,4][1:3] }} {{ [1,2,3,4][::2] }} {{ (1,2,3)[-2:] }} {{ 'äöü€'[1:3] }}",
    "{{ [1,2,3,4,5][4:1:-1] }} {{ [1,2][5:] }} {{ [1,2][-9:1] }} {{ 'abc'[2:1] }}|{{ [][::-1] }}", "{{ range(5)[1:3]|list }} {{ range(9)[-1] }}",
    "{{ q.x }}", "{{ q['x'] }}", "{{ q() }}", "{{ q + 1 }}", "{{ -q }}", "{{ q < 1 }}", "{{ q ~ 'x' }}{{ q == '' }}{{ not q }}", "{% for x in q %}x{% else %}none{% endfor %}",
    "{{ p.nope() }}", "{{ p.name() }}", "{% set n = none %}{{ n[1:] }}", "{{ [1,2][::0] }}", "{{ p.address.nope.deeper }}", "{{ {'a': 1}[[]] }}|", "{{ p.tags['x'] }}|{{ 'a'.nope }}|",
    "{{ [1].append(2) }}", "{{ p.update({'a': 1}) }}", "{{ p.pop('name') }}", "{{ [].append is defined }}|{{ [].append }}|", "{% set e = {'items': 1} %}{{ e['items'] }}",
    "{{ q|length }}{{ q|list }}{{ q|join }}{{ q|upper }}|{{ q|string }}|{{ q is string }}{{ q is iterable }}{{ q is sequence }}", p=PERSON)

add("set",
    "{% set a = 1 %}{% set b, c = 2, 'x' %}{{ a }}{{ b }}{{ c }}", "{% set a = [1, 2] %}{% set a = a + [3] %}{{ a }}", "{% set x = 1, 2 %}{{ x }}",
    "{% set a %}text {{ 1 + 1 }}\n{% endset %}[{{ a }}]", "{% set a | upper | trim %} shout {% endset %}[{{ a }}]",
    "{% set ns = namespace(found=false, n=1) %}{% for i in [1,2,3] %}{% set ns.n = ns.n + i %}{% if i == 2 %}{% set ns.found = true %}{% endif %}{% endfor %}{{ ns.found }} {{ ns.n }}",
    "{% set x = 1 %}{% for i in [1, 2] %}{% set x = x + i %}{{ x }} {% endfor %}{{ x }}", "{% set x = 1 %}{% if true %}{% set x = 2 %}{% endif %}{{ x }}",
    "{% if false %}{% set m = 2 %}{% endif %}{{ m }}{{ given }}", "{% for i in [1,2] %}{% if loop.first %}{% set y = 'seen' %}{% endif %}[{{ y }}]{% endfor %}",
    "{% set ns = namespace({'a': 1}, b=2) %}{{ ns.a }}{{ ns.b }}{{ ns.c }}|{{ ns['a'] }}", "{% set (a, (b, c)) = (1, (2, 3)) %}{{ a }}{{ b }}{{ c }}", "{% set a, b = [1] %}", "{% set a, b = 'xyz' %}",
    "{% set given.x = 1 %}", "{% set 1 = 2 %}", "{% set none = 2 %}", "{% with a = 1, b = 2 %}{{ a + b }}{% endwith %}{{ a }}", "{% set a = 1 %}{% with a = 5, b = a %}{{ a }}{{ b }}{% endwith %}{{ a }}",
    "{% set given = given ~ '!' %}{{ given }}", "{% set ns = namespace() %}{% set ns.list = [] %}{% for i in range(3) %}{% set ns.list = ns.list + [i * i] %}{% endfor %}{{ ns.list }}{{ ns }}", "{% set x = 5 if given else 6 %}{{ x }}",
    given="g")

add("for",
    "{% for x in [1,2,3] %}{{ x }}{% if not loop.last %}, {% endif %}{% endfor %}", "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}", "{% for k in d %}{{ k }}{% endfor %}", "{% for c in 'añb' %}[{{ c }}]{% endfor %}",
    "{% for x in [] %}a{% else %}empty{% endfor %}", "{% for x in [1,2,3,4] if x % 2 == 0 %}{{ loop.index }}:{{ x }}/{{ loop.length }} {% else %}no{% endfor %}", "{% for x in [1,3] if x > 5 %}{{ x }}{% else %}no{% endfor %}",
    "{% for x in 'abc' %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.depth }}{{ loop.depth0 }} {% endfor %}",
    "{% for x in [1,2,3] %}{{ loop.previtem }}<{{ x }}>{{ loop.nextitem }} {% endfor %}", "{% for x in [1,2,3,4] %}{{ loop.cycle('odd', 'even') }} {% endfor %}", "{% for x in [1,1,2,2,1] %}{{ loop.changed(x) }} {% endfor %}",
    "{% for x in range(10) %}{% if x == 2 %}{% continue %}{% endif %}{% if x == 5 %}{% break %}{% endif %}{{ x }}{% endfor %}", "{% for a in [1,2] %}{% for b in [3,4] %}{{ loop.depth }}{{ a }}{{ b }} {% endfor %}{{ loop.index }}{% endfor %}",
    "{% for a, b in [(1, 2), [3, 4], 'xy'] %}{{ a }}-{{ b }} {% endfor %}", "{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}", "{% for x in (1, 2), (3, 4) %}{{ x }}{% endfor %}", "{% for x in [1,2] %}{% endfor %}{{ x }}|{{ loop }}",
    "{% for i in range(3) %}{% set outer = loop %}{% for j in range(2) %}{{ outer.index }}{{ loop.index }} {% endfor %}{% endfor %}", "{% for x in d.items()|list %}{{ x[0] }}{{ x.1 }}{% endfor %}", "{% for x in [3,1,2]|sort %}{{ x }}{% endfor %}",
    "{% for x in 5 %}{% endfor %}", "{% for a, b in [1] %}{% endfor %}", "{% for x in none %}{% endfor %}", "{% break %}", "{% for x in [1] %}{{ x }}", "{% endfor %}", "{% for x in [1,2,3] %}{% if x == 1 %}{% break %}{% endif %}{% else %}e{% endfor %}|",
    "{% for m in ms if m.role != 'system' %}{% if loop.first %}F{% endif %}{{ m.role }}{{ loop.index0 % 2 }}{% endfor %}", "{% for x in [0, none, '', 'a'] %}{% if x %}y{% elif x is none %}n{% elif x == 0 %}0{% else %}-{% endif %}{% endfor %}",
    d={"b": 1, "a": [2]}, ms=[{"role": "system"}, {"role": "user"}, {"role": "assistant"}])

add("macros",
    "{% macro m(a, b=2, c='x') %}[{{ a }}{{ b }}{{ c }}]{% endmacro %}{{ m(1) }}{{ m(1, 3) }}{{ m(c=5, a=4) }}{{ m() }}", "{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, k=3) }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(b=2) }}",
    "{% macro box(t) %}<{{ t }}>{{ caller() }}</{{ t }}>{% endmacro %}{% call box('b') %}in {{ 1 }}{% endcall %}", "{% macro each(l) %}{% for x in l %}{{ caller(x, loop.index) }}{% endfor %}{% endmacro %}{% call(x, i) each('ab') %}{{ i }}{{ x }};{% endcall %}", "{% macro m(a, b=a) %}{{ a }}{{ b }}{% endmacro %}{{ m(1) }}{{ m(1, 2) }}",
    "{% macro fact(n) %}{{ n * fact(n - 1)|int if n > 1 else 1 }}{% endmacro %}{{ fact(6) }}", "{% set g = 1 %}{% macro m() %}{{ g }}{% set g = 9 %}{{ g }}{% endmacro %}{{ m() }}{{ g }}", "{% macro m() %}{{ later }}{% endmacro %}{% set later = 'L' %}{{ m() }}", "{{ m() }}{% macro m() %}{% endmacro %}",
    "{% macro m(x) -%}\n  {{- x -}}\n{%- endmacro %}{{ m('a')|upper }}{{ m('b') ~ 'c' }}", "{% macro m(x) %}{{ x }}{% endmacro %}{{ m.name }}{{ m.arguments }}{{ m is callable }}", "{% macro m() %}a{% endmacro %}{% call m() %}b{% endcall %}", "{% macro m(a, a2) %}{{ a is defined }}{{ a2 is defined }}{% endmacro %}{{ m(1) }}",
    "{% macro rec(d, n) %}{% for k, v in d.items() %}{{ '  ' * n }}{{ k }}{% if v is mapping %}:\n{{ rec(v, n + 1) }}{% else %}={{ v }}\n{% endif %}{% endfor %}{% endmacro %}{{ rec({'a': {'b': 1, 'c': {'d': 2}}, 'e': 3}, 0) }}", "{% filter upper %}a{{ 'b' }}{% endfilter %}c", "{% filter replace('a', 'o')|trim %} banana {% endfilter %}|",
    "{% macro m(a=1, b) %}{% endmacro %}", "{{ caller() }}", "{% macro m(*a) %}{% endmacro %}", "{% set l = [1, 2] %}{% macro m(a, b, c=0) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(*l) }}{{ m(*l, **{'c': 3}) }}", "{% generation %}{% set z = 1 %}gen {{ z }}{% endgeneration %}{{ z }}|", "{% macro m(a, a=1) %}{% endmacro %}x")

add("text filters",
    "{{ '  a b ' | trim }}|{{ 'xxaxx' | trim('x') }}|{{ '\\u3000z\\u2003' | trim }}|", "{{ 'Hello wORLD' | upper }}{{ 'Hello wORLD' | lower }}{{ 'hello wORLD-x (y' | title }}{{ 'hELLO wORLD' | capitalize }}", "{{ 'straße ǆ ΟΔΟΣ İ éa' | upper }} {{ 'STRASSE ΟΔΟΣ İ' | lower }} {{ 'ßa' | capitalize }} {{ 'ŉ ﬁx' | title }}",
    "{{ 'a-b-c' | replace('-', '+') }}{{ 'a-b-c' | replace('-', '+', 1) }}{{ 'ab' | replace('', '.') }}{{ 112 | replace('1', 'x') }}", "{{ x | default('d') }}{{ '' | default('d') }}{{ '' | default('d', true) }}{{ none | default('d') }}{{ none | d('d', boolean=true) }}{{ x | d }}|", "{{ '42' | int }}{{ ' 7 ' | int }}{{ 'x' | int }}{{ 'x' | int(9) }}{{ '3.9' | int }}{{ 3.9 | int }}{{ -3.9 | int }}{{ 'ff' | int(base=16) }}{{ '0x1f' | int(0, 16) }}{{ none | int }}{{ true | int }}{{ '1_000' | int }}{{ '1e3' | int }}",
    "{{ '3.5' | float }} {{ 'x' | float }} {{ 'x' | float(1.5) }} {{ 3 | float }} {{ '1e5' | float }} {{ 'inf' | float }} {{ '-Infinity' | float }} {{ 'nan' | float }} {{ ' 2 ' | float }} {{ '1e999' | float }}", "{{ -5 | abs }} {{ (-5) | abs }} {{ -2.5 | abs }} {{ true | abs }}", "{{ 2.5 | round }} {{ 3.5 | round }} {{ 2.567 | round(2) }} {{ 2.561 | round(2, 'ceil') }} {{ 2.569 | round(2, 'floor') }} {{ 42 | round }} {{ 42.55 | round(1) }} {{ 1234.5 | round(-2) }} {{ 2.675 | round(2) }} {{ 5 | round(0, 'ceil') }}", "{{ 5 | string + 'x' }} {{ none | string }} {{ [1] | string }}",
    "{{ '<a href=\"x\">\\'&' | e }}", "{{ '<b>' | safe }}{{ ('<b>' | safe) ~ '<i>' }}{{ '<i>' + ('<b>' | safe) }}{{ ('<b>' | safe) | e }}{{ '<b>' | e | e }}{{ '<b>' | e | forceescape }}", "{{ 'a\\nb\\n\\nc' | indent }}|{{ 'a\\nb\\n\\nc' | indent(2, true) }}|{{ 'a\\n\\nb' | indent(2, blank=true) }}|{{ 'a\\nb' | indent('> ') }}|{{ 'a\\nb\\n' | indent(1) }}|", "{{ '%s-%s' | format('a', 1) }}{{ '%(x)s' | format(x=3) }}{{ '%.1f' | format(2.25) }}",
    "{{ 'abc' | center(9) }}|{{ 'abc' | center(8) }}|{{ 'äb' | center(5) }}|", "{{ 'one two three four' | truncate(12) }}|{{ 'one two three four' | truncate(12, true) }}|{{ 'one two three four' | truncate(12, end='!', leeway=0) }}|{{ 'short' | truncate(3) }}", "{{ 'one two, three_4 -' | wordcount }}", "{{ 'abc' | length }}{{ 'äöü🙂' | count }}{{ [] | length }}{{ {'a': 1} | length }}{{ range(4) | length }}", "{{ 5 | length }}", "{{ x | int }}", "{{ 'a' | abs }}", "{{ 'a' | nosuchfilter }}", "{% if false %}{{ 'a' | nosuchfilter }}{% endif %}ok", "{{ 'a' | round }}", "{{ 'a' | trim(1, 2, 3) }}",
    "{{ 'a b' | upper | lower | replace(' ', '_') | title }}", "{{ 1 | default }}{{ false | default(true) }}{{ 'abc' | first }}{{ 'abc' | last }}{{ 'abc' | reverse }}{{ 'cab' | sort | join }}", "{{ 'abc' | list }}{{ 'a,b' | replace(',', ', ') }}")

add("list filters",
    "{{ [1,2,3] | join }}{{ [1,2,3] | join(', ') }}{{ ['a', none, 1.5] | join('-') }}{{ people | join(', ', attribute='name') }}{{ 'abc' | join('.') }}", "{{ [3,1,2] | sort }}{{ ['b','A','c'] | sort }}{{ ['b','A','c'] | sort(case_sensitive=true) }}{{ [1,3,2] | sort(reverse=true) }}{{ people | sort(attribute='age') | map(attribute='name') | list }}{{ people | sort(attribute='age,name', reverse=true) | map(attribute='name') | list }}",
    "{{ [1,2,3] | reverse | list }}{{ 'abc' | reverse }}", "{{ [1,2] | first }}{{ [1,2] | last }}{{ [] | first }}|{{ {'k': 1} | first }}{{ {'k': 1, 'l': 2} | last }}", "{{ ['a','A','b'] | unique | list }}{{ ['a','A','b'] | unique(true) | list }}{{ people | unique(attribute='age') | map(attribute='name') | join(',') }}", "{{ [1,2,3] | sum }}{{ people | sum(attribute='age') }}{{ [[1],[2]] | sum(start=[]) }}{{ [] | sum }}{{ [0.5, 1] | sum }}",
    "{{ [3,1,2] | min }}{{ [3,1,2] | max }}{{ ['b','A'] | min }}{{ ['b','A'] | max(case_sensitive=true) }}{{ [] | max }}|{{ (people | max(attribute='age')).name }}", "{{ people | map(attribute='name') | list }}{{ ['a','b'] | map('upper') | list }}{{ [' a '] | map('trim') | map('replace', 'a', 'z') | join }}{{ people | map(attribute='zip', default='?') | join }}{{ [[1,2],[3]] | map('join', '-') | list }}{{ [{'a': {'b': 5}}] | map(attribute='a.b') | first }}{{ [[7, 8]] | map(attribute=1) | list }}",
    "{{ [1,2,3,4] | select('odd') | list }}{{ [0,1,'',none,'a'] | select | list }}{{ [1,2,3] | reject('gt', 1) | list }}{{ [1,2,3] | select('in', [2,3]) | list }}{{ [0, 1] | reject | list }}", "{{ people | selectattr('ok') | map(attribute='name') | list }}{{ people | selectattr('age', 'equalto', 5) | map(attribute='name') | list }}{{ people | rejectattr('ok') | map(attribute='name') | list }}{{ people | selectattr('age', '>', 10) | list | length }}{{ people | selectattr('zip', 'undefined') | list | length }}{{ people | rejectattr('name', 'in', ['Bob']) | map(attribute='name') | join }}",
    "{{ {'b': 1, 'A': 2} | dictsort }}{{ {'b': 1, 'A': 2} | dictsort(true) }}{{ {'b': 1, 'A': 2} | dictsort(by='value', reverse=true) }}{% for k, v in {'y': 1, 'x': 2} | dictsort %}{{ k }}{{ v }}{% endfor %}", "{{ {'a': 1} | items | list }}{% for k, v in {'a': 1} | items %}{{ k }}{{ v }}{% endfor %}{{ nope | items | list }}", "{{ [1,2,3,4,5] | batch(2) | list }}{{ [1,2,3] | batch(2, 'x') | list }}{{ [1,2,3,4,5] | slice(2) | list }}{{ [1,2,3] | slice(2, 'x') | list }}", "{{ {'a': 1} | list }}{{ (1, 2) | list }}{{ range(3) | list }}", "{{ [1, 'a'] | sort }}", "{{ 5 | list }}", "{{ none | select | list }}{{ 0 | map('upper') | list }}{{ q | selectattr('a') | list }}", "{{ 5 | select | list }}", "{{ 5 | indent }}", "{{ 5 | truncate(3) }}", "{{ [1] | map('nosuch') | list }}", "{{ [1] | select('nosuch') | list }}", "{{ ['a'] | sum }}", "{{ 5 | items | list }}", "{{ [{}] | unique | list }}", "{{ 5 | dictsort }}", "{{ [1,2] | map('int', base=8) | sum }}", "{{ [1,2] | select('odd') | length }}", 
    "{% set g = [1,2] | map('string') %}{{ g | join }}{{ g | join }}|{{ [3,2] | reverse | first }}{{ [1,2,3] | select('odd') | map('float') | list | last }}", people=PEOPLE)

add("tests",
    "{{ x is defined }}{{ p is defined }}{{ x is undefined }}{{ p.zip is defined }}{{ p.name is defined }}{{ none is none }}{{ p is not none }}", "{{ 'a' is string }}{{ 1 is string }}{{ 1 is number }}{{ 1.5 is number }}{{ true is number }}{{ '1' is number }}{{ 1 is integer }}{{ true is integer }}{{ 1.0 is integer }}{{ 1.0 is float }}{{ 1 is float }}", "{{ {} is mapping }}{{ [] is mapping }}{{ [] is iterable }}{{ 'a' is iterable }}{{ 1 is iterable }}{{ {} is iterable }}{{ [] is sequence }}{{ () is sequence }}{{ {} is sequence }}{{ 'a' is sequence }}{{ range(2) is sequence }}{{ none is sequence }}", "{{ true is boolean }}{{ 1 is boolean }}{{ true is true }}{{ 1 is true }}{{ false is false }}{{ 0 is false }}",
    "{{ 3 is odd }}{{ 4 is even }}{{ 9 is divisibleby 3 }}{{ 9 is divisibleby(2) }}{{ -3 is odd }}", "{{ 1 is eq 1 }}{{ 1 is equalto 2 }}{{ 1 is ne 2 }}{{ 1 is lt 2 }}{{ 2 is gt 1 }}{{ 1 is le 1 }}{{ 1 is ge 2 }}{{ 'a' is in 'abc' }}{{ 1 is in [2] }}{{ 3 is not in [2] }}{{ 1 is sameas 1 }}{{ none is sameas none }}{{ true is sameas 1 }}", "{{ 'abc' is lower }}{{ 'aBc' is lower }}{{ 'ABC' is upper }}{{ '123' is upper }}{{ 'A1' is upper }}", "{{ range is callable }}{{ 'a'.upper is callable }}{{ 1 is callable }}{{ 'upper' is filter }}{{ 'x' is filter }}{{ 'odd' is test }}{{ ('a' | e) is escaped }}{{ 'a' is escaped }}", "{{ p.name is string and p.age is number }}{{ not p is mapping }}{{ p.name is not string or p.tags is iterable }}", "{{ 1 is nosuchtest }}", "{{ 'a' is odd }}", "{{ p.tags is iterable and p.tags is not string and p.tags is not mapping }}{{ x is defined and x.y.z is defined }}", "{{ 5 is divisibleby 0 }}", "{{ 'x' is string is string }}", "{{ 1 is defined if true else 2 }}{{ 'yes' if p.name is eq 'Ada' else 'no' }}", "{{ x is none }}{{ x is mapping }}{{ x is string }}{{ x is boolean }}{{ x is callable }}", p=PERSON)

add("methods",
    "{{ ' a '.strip() }}|{{ 'xay'.strip('xy') }}|{{ ' a '.lstrip() }}|{{ ' a '.rstrip() }}|{{ 'aab'.lstrip('a') }}|{{ 'a\\n'.rstrip('\\n') }}", "{{ 'a b  c'.split() }}{{ 'a,b,c'.split(',') }}{{ 'a,b,c'.split(',', 1) }}{{ 'a,b,c'.rsplit(',', 1) }}{{ ''.split() }}{{ ''.split(',') }}{{ ' a b c '.split(none, 1) }}{{ ' a b c '.rsplit(none, 1) }}{{ 'a b'.split(maxsplit=1) }}", "{{ 'abc'.startswith('ab') }}{{ 'abc'.endswith('bc') }}{{ 'abc'.startswith(('x', 'a')) }}{{ 'abc'.startswith('b', 1) }}{{ 'abc'.endswith('b', 0, 2) }}", "{{ 'aXbX'.replace('X', '-') }}{{ 'aXbX'.replace('X', '-', 1) }}{{ 'abc'.upper() }}{{ 'ABC'.lower() }}{{ \"they're bill's\".title() }}{{ 'aBC dE'.capitalize() }}{{ 'aB'.swapcase() }}",
    "{{ ', '.join(['a', 'b']) }}{{ ''.join('ab') }}{{ '-'.join({'x': 1, 'y': 2}) }}", "{{ 'hello'.find('l') }}{{ 'hello'.rfind('l') }}{{ 'hello'.find('z') }}{{ 'hello'.index('e') }}{{ 'häl'.find('l') }}{{ 'hello'.find('l', 3) }}{{ 'hello'.count('l') }}{{ 'aaa'.count('aa') }}{{ 'ab'.count('') }}", "{{ 'a={} b={}'.format(1, 'x') }}{{ '{0}{1}{0}'.format('a', 'b') }}{{ '{x}-{y}'.format(x=1, y=2) }}{{ '{:>5}|{:<5}|{:^5}|{:*^7}'.format('a', 'b', 'c', 'd') }}{{ '{:.2f} {:5d} {:05d} {:,} {:x} {:+d} {:%}'.format(1.005, 42, 42, 1234567, 255, 5, 0.25) }}{{ '{{}} {!r}'.format('q') }}{{ '{0.name} {1[0]}'.format(p, [7]) }}{{ '{:{}}|'.format('a', 4) }}",
    "{{ 'a.b.c'.partition('.') }}{{ 'a.b.c'.rpartition('.') }}{{ 'abc'.partition('x') }}{{ 'prefix-x'.removeprefix('prefix-') }}{{ 'x.py'.removesuffix('.py') }}", "{{ '123'.isdigit() }}{{ 'a1'.isalpha() }}{{ 'a1'.isalnum() }}{{ ' '.isspace() }}{{ ''.isdigit() }}{{ 'Ab'.islower() }}{{ 'AB'.isupper() }}", "{{ 'a\\nb\\r\\nc'.splitlines() }}{{ 'a\\nb\\n'.splitlines(true) }}", "{{ '7'.zfill(3) }}{{ '-7'.zfill(4) }}{{ 'a'.ljust(3) }}|{{ 'a'.rjust(3, '.') }}|{{ 'a'.center(4) }}|{{ 'ab'.center(5, '*') }}", "{{ [1,2,1].count(1) }}{{ [1,2].index(2) }}{{ (1,2).index(2) }}{{ {'a': 1}.items() | list }}{{ {'a': 1}.keys() | list }}{{ {'a': {'b': 2}}.get('a').get('b') }}{{ {'a': 1}.get('b', {}).get('c') }}", "{{ 2.0.is_integer() }}{{ (2.5).is_integer() }}", "{{ 'a'.nope() }}", "{{ ', '.join([1]) }}", "{{ 'a'.split('') }}", "{{ 'a'.index('z') }}", "{{ [1].index(5) }}", "{{ 'x'.startswith(1) }}", "{{ '{} {}'.format(1) }}", "{{ 'a'.replace('a') }}",
    "{{ 'a b c d'.split(' ')[1:-1] | join('+') }}{{ 'A'.lower().upper().strip() }}{{ 'x'.upper().join(['1', '2']) }}", "{% set parts = '<think>abc</think>rest'.split('</think>') %}{{ parts[0].split('<think>')[-1].strip('\\n') }}|{{ parts[-1].lstrip('\\n') }}|{{ parts|length }}", "{{ {'b': 1}.items() }}{{ {'b': 1}.keys() }}{{ {'b': 1}.values() }}{{ {'b': 1}.items()[0] }}|", p=PERSON)

add("json",
    "{{ p | tojson }}", "{{ p | tojson(indent=2) }}", "{{ p | tojson(indent=4, ensure_ascii=true) }}", "{{ ['é', '\\u2028', '\\x7f', '\\x01', '\"', '\\\\', '/', '🙂', '\\n\\t\\r\\b\\f'] | tojson }}", "{{ ['é', '🙂', '\\x7f'] | tojson(ensure_ascii=true) }}", "{{ {'b': 1, 'a': [1.0, 1e100, 1.5e-9, none, true]} | tojson(sort_keys=true) }}", "{{ {1: 'a', none: 'b', true: 'c', 1.5: 'd'} | tojson }}", "{{ p | tojson(separators=(',', ':')) }}", "{{ [] | tojson }}{{ {} | tojson(indent=2) }}{{ [[], {}] | tojson(indent=1) }}{{ 'x' | tojson }}{{ 5 | tojson }}{{ none | tojson }}{{ (1, 2) | tojson }}", "{{ p | tojson(indent='\\t') }}{{ [1] | tojson(indent=0) }}",
    "{{ q | tojson }}", "{{ range(2) | tojson }}", "{{ {(1, 2): 3} | tojson }}", "{{ [1] | map('string') | tojson }}", "{{ '<a>&\\'' | tojson }}{{ '<b>' | tojson | safe }}", "{{ nested | tojson(indent=2) | indent(4) }}", p=PERSON, nested={"a": [{"b": [1, 2]}, {}], "ü": "ö"})

add("globals",
    "{{ range(3) | list }}{{ range(1, 4) | list }}{{ range(5, 0, -2) | list }}{{ range(0) | list }}{{ range(3) }}{{ range(2, 8, 3) }}", "{% set d = dict(a=1, b=2) %}{{ d }}{{ dict([('x', 1)]) }}{{ dict({'k': 2}, z=3) }}", "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current }}{% set _ = c.reset() %}{{ c.next() }}", "{% set j = joiner(', ') %}{% for x in [1,2,3] %}{{ j() }}{{ x }}{% endfor %}", "{{ raise_exception('no ' ~ 'way') }}", "{% if false %}{{ raise_exception('x') }}{% endif %}fine", "{{ range(200000) | length }}", "{{ range(1, 2, 0) | list }}", "{{ strftime_now('%%|x') }}", "{{ nosuch() }}", "{{ range() }}", "{{ range('a') }}", "{{ strftime_now is defined }}{{ raise_exception is defined }}{{ foo is defined }}", "{{ dict(a=1).a }}{{ namespace(a=[1]).a[0] }}")

add("errors",
    "{{ ", "{{ 1", "{% if %}{% endif %}", "{% if 1 %}", "{% endif %}", "{{ 1 + }}", "{{ (1 }}", "{{ 1) }}", "{% foo %}", "{{ 'abc }}", "{# open", "{% raw %}x", "{{ a b }}", "{% for in x %}{% endfor %}", "{% set %}", "{{ [1, 2 }}", "{{ {'a' 1} }}", "{{ x | }}", "{{ x is }}", "{{ .5 }}", "{{ $ }}", "{% macro %}{% endmacro %}", "{% call x %}{% endcall %}", "{{ f(a=1, 2) }}", "{{ f(a=1, a=2) }}", "{% else %}", "{% elif 1 %}", "{% if 1 %}{% else %}{% elif 1 %}{% endif %}", "{% do x %}", "{% include 'x' %}", "{{ }}", "{% %}", "{% if 1 }}{% endif %}", "{% set x = %}", "{{ 1 if }}", "{{ not }}", "{% continue %}", "{{ a.[1] }}", "{{ 'a' 1 }}", "{% for x in [1] %}{% else %}{% else %}{% endfor %}")

add("shape of real templates",
    "{%- if not x is defined %}{%- set x = 'default' %}{%- endif %}{{- x }}", "{%- set loop_messages = messages[1:] if messages[0].role == 'system' else messages -%}{% for m in loop_messages %}{{ m.role }}{% endfor %}", "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}bad{% endif %}{{ m['content'] | trim }}{% endfor %}", "{%- for m in messages[::-1] %}{%- set index = (messages|length - 1) - loop.index0 %}{{ index }}{{ m.role[:1] }}{%- endfor %}", "{{ messages[-1]['content'] if messages[-1]['role'] == 'user' else '' }}{{ messages | selectattr('role', 'equalto', 'user') | list | length }}", "{{ (messages | selectattr('role', 'eq', 'user') | first).content }}{{ messages | map(attribute='role') | unique | join('/') }}", "{% set content = messages[1].content %}{% if '</think>' in content %}{% set content = content.split('</think>')[-1].lstrip('\\n') %}{% endif %}{{ content }}", "{% if messages[0].content is string %}s{% elif messages[0].content is iterable %}i{% endif %}{{ messages[0].tool_calls is defined and messages[0].tool_calls }}{{ 'tools' in messages[0] }}{{ messages[0].get('name', 'anon') }}",
    messages=[{"role": "system", "content": " sys "}, {"role": "user", "content": "<think>x</think>\n\nhi"}, {"role": "assistant", "content": "yo"}])
