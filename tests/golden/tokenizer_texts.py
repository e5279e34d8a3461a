"""The texts of the tokenizer goldens: varied on purpose, the same on every run."""

import random

SENTENCES = [
    "The quick brown fox jumps over the lazy dog.",
    "It's a truth universally acknowledged that they'll say we've gone; I'd doubt it, and you're right.",
    "IT'S LOUD: THEY'LL SHOUT, WE'VE HEARD, I'M SURE, YOU'RE DONE, HE'D GO.",
    "Prices rose 3.14% to $1,234,567.89 (see p. 42) on 2024-02-29 at 23:59:59Z.",
    "naïve café résumé coöperate Ångström façade jalapeño",
    "«Être ou ne pas être», voilà l'œuvre qu'il préfère.",
    "Größe, Maß und Übermut: die Straße führt über die Brücke.",
    "¿Dónde está la biblioteca? ¡Mañana será otro día!",
    "Zażółć gęślą jaźń; příliš žluťoučký kůň úpěl ďábelské ódy.",
    "Pijamalı hasta yağız şoföre çabucak güvendi. İstanbul'da ığdır.",
    "Tiếng Việt có nhiều dấu: ườ ẫ ợ ỵ ẵ.",
    "Съешь ещё этих мягких французских булок, да выпей же чаю.",
    "Їхня ґава з'їла їжу; Ђорђе воли шљиве.",
    "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία. Ἐν ἀρχῇ ἦν ὁ λόγος.",
    "صِف خَلقَ خَودِ كَمِثلِ الشَمسِ إِذ بَزَغَت، والعدد ١٢٣٤٥٦٧٨٩٠.",
    "גַּם זוּ לְטוֹבָה — שלום עולם, מה שלומך?",
    "یک روز زیبا در تهران؛ شمارهٔ ۱۲۳۴۵",
    "ऋषियों को सताने वाले दुष्ट राक्षसों के राजा; संख्या १२३४५।",
    "আমার সোনার বাংলা, আমি তোমায় ভালোবাসি। ৬৭৮৯",
    "தமிழ் மொழி மிகவும் பழமையானது; ௧௨௩",
    "తెలుగు అక్షరాలు ಕನ್ನಡ ಅಕ್ಷರಗಳು മലയാളം ਪੰਜਾਬੀ ગુજરાતી ଓଡ଼ିଆ",
    "เป็นมนุษย์สุดประเสริฐเลิศคุณค่า ๑๒๓๔",
    "ພາສາລາວ ភាសាខ្មែរ မြန်မာဘာသာ བོད་སྐད་",
    "いろはにほへと ちりぬるを カタカナ ﾊﾝｶｸ 漢字かな交じり文です。",
    "我能吞下玻璃而不傷身體。简体中文：２０２４年１２月３１日，你好！",
    "다람쥐 헌 쳇바퀴에 타고파. ㄱㄴㄷ ㅏㅑㅓ 한국어",
    "ქართული ენა Հայերեն լեզու አማርኛ ቋንቋ ᏣᎳᎩ ᐃᓄᒃᑎᑐᑦ ᚠᚢᚦᚨᚱᚲ ⵜⴰⵎⴰⵣⵉⵖⵜ",
    "𐎀𐎁𐎂 𝕳𝖊𝖑𝖑𝖔 𝟘𝟙𝟚 𠜎𠜱𠝹 𓀀𓁐 𝄞𝄢",
    "½ ⅔ ² ³ ₁₂₃ ① ⑳ Ⅷ ⅻ ㊿ ٣ ৪ ༣ 〇 一二三",
    "∀x∈ℝ: ⌈x⌉ = −⌊−x⌋, α ∧ ¬β → ∫₀^∞ e^{-x²} dx = √π/2",
    "★☆♠♣♥♦ ☃☂☀ ←↑→↓ ⇒⇔ ▁▂▃▄▅▆▇█ ░▒▓ ┌─┐│└┘ ✓✗ ©®™ §¶†‡ …–—",
    "😀😃😄 👍🏽👎🏿 👨‍👩‍👧‍👦 🏳️‍🌈 🇩🇪🇫🇷🇯🇵 ❤️‍🔥 1️⃣2️⃣ 🧑🏻‍💻 🫠🫨",
    "e\u0301 a\u0308 o\u0302\u0323 n\u0303 Z\u0351\u036b\u0343\u036a\u0302\u036b\u033d\u034f\u0334\u0319\u0324\u031e\u0349\u035a\u032f\u031e\u0320\u034da\u036b\u0357\u0334\u0362\u0335\u031c\u0330\u0354l\u0368\u0367\u0369\u0358\u0320g\u0351\u0357\u030e\u0305\u035b\u0341\u0334\u033b\u0348\u034d\u0354\u0339o",
    "ﬁ ﬂ ﬀ ŉ ǅ ǆ ſ K Å ẞ ß İ ı ſ's 'ſ 'K",
    "https://example.org/a/b?c=d&e=%20f#g user@example.com +1 (555) 010-9999 C:\\Users\\x\\y.txt /etc/passwd",
    "snake_case camelCase PascalCase kebab-case SCREAMING_SNAKE x1y2z3 __init__ $var @decorator #hash",
]

CODE = [
    "def f(x: int) -> list[int]:\n    \"\"\"Doc.\"\"\"\n    return [i ** 2 for i in range(x) if i % 3 == 0]\n",
    "class A(B):\n\tdef __init__(self, *args, **kwargs):\n\t\tsuper().__init__(*args, **kwargs)\n\t\tself._x = None  # todo\n",
    "#include <vector>\ntemplate <class T>\nauto sum(const std::vector<T>& v) {\n  T s{};\n  for (auto&& x : v) s += x;\n  return s;\n}\n",
    "fn main() {\n    let v: Vec<u8> = (0..=255).collect();\n    println!(\"{:?}\", &v[..10]);\n}\n",
    "package main\n\nimport \"fmt\"\n\nfunc main() {\n\tfor i := 0; i < 10; i++ {\n\t\tfmt.Printf(\"%d\\n\", i)\n\t}\n}\n",
    "const f = async ({a, b = 1, ...rest}) => {\r\n  await fetch(`/x/${a}?b=${b}`);\r\n};\r\n",
    "SELECT t.id, COUNT(*) AS n FROM t LEFT JOIN u ON u.t_id = t.id WHERE t.x >= 10 GROUP BY 1 HAVING n > 2;\n",
    "<!DOCTYPE html>\n<html>\n  <body class=\"x\">\n    <h1>Hi</h1>\n    <table><tr><td>1</td></tr></table>\n  </body>\n</html>\n",
    "{\"a\": [1, 2.5e-10, null, true], \"b\": {\"c\": \"\\u00e9\\n\"}}",
    "key: value\nlist:\n  - a\n  - b: [1, 2]\n    c: |\n      text\n\n      more\n",
    "for f in *.txt; do\n  grep -E '^[0-9]+' \"$f\" | awk '{print $1}' >> out.log 2>&1\ndone\n",
    "mov rax, [rbx+8*rcx-0x10]\nxor eax, eax\njmp .loop_1 ; comment\n",
    "\\begin{equation}\n  E = mc^2 \\label{eq:1}\n\\end{equation}\n",
    "@@ -1,7 +1,9 @@\n-old line\n+new line\n context\n",
    "main = do\n  let xs = [x | x <- [1..], odd x]\n  print $ takeWhile (<100) xs\n",
    "int\tmain(void)\n{\n\tprintf(\"hello, world\\n\");\n\n\n\treturn 0;\n}\n\n\n",
]

RANGES = [
    (0x20, 0x7E), (0x20, 0x7E), (0x00, 0x1F), (0x80, 0x9F), (0xA0, 0xFF), (0x100, 0x24F),
    (0x250, 0x2FF), (0x300, 0x36F), (0x370, 0x3FF), (0x400, 0x52F), (0x531, 0x58F), (0x590, 0x5FF),
    (0x600, 0x6FF), (0x900, 0x97F), (0x980, 0x9FF), (0xE00, 0xE7F), (0xF00, 0xFBC), (0x10A0, 0x10FF),
    (0x1100, 0x11FF), (0x1200, 0x135A), (0x13A0, 0x13F4), (0x1680, 0x169C), (0x1780, 0x17DD),
    (0x1800, 0x180E), (0x1E00, 0x1EFF), (0x1F00, 0x1F15), (0x2000, 0x206F), (0x2070, 0x209C),
    (0x20A0, 0x20BF), (0x2100, 0x218B), (0x2190, 0x23FF), (0x2460, 0x24FF), (0x2500, 0x27BF),
    (0x2800, 0x28FF), (0x2C00, 0x2C2E), (0x3000, 0x303F), (0x3041, 0x30FF), (0x3105, 0x312F),
    (0x3400, 0x34FF), (0x4E00, 0x9FA5), (0xA000, 0xA48C), (0xAC00, 0xD7A3), (0xE000, 0xE0FF),
    (0xF900, 0xFA6D), (0xFB00, 0xFB06), (0xFE00, 0xFE0F), (0xFF01, 0xFFDC), (0xFFF9, 0xFFFD),
    (0x10000, 0x1000B), (0x10400, 0x1044F), (0x12000, 0x1207F), (0x1D400, 0x1D454), (0x1D7CE, 0x1D7FF),
    (0x1F1E6, 0x1F1FF), (0x1F300, 0x1F5FF), (0x1F600, 0x1F64F), (0x1F900, 0x1F9FF), (0x20000, 0x2007F),
    (0xE0020, 0xE007F), (0xF0000, 0xF000F),
]
DIGIT_ZEROS = [0x30, 0x660, 0x6F0, 0x7C0, 0x966, 0x9E6, 0xA66, 0xBE6, 0xE50, 0xED0, 0xF20, 0x1040, 0x17E0, 0xFF10,
               0x104A0, 0x1D7CE]
SPACES = [" ", " ", " ", "  ", "   ", "    ", "\t", "\n", "\r\n", "\n\n", "\r", "\x0b", "\x0c", "\x85", "\xa0",
          "\u1680", "\u180e", "\u2003", "\u2009", "\u200a", "\u200b", "\u2028", "\u2029", "\u202f", "\u205f",
          "\u3000", "\ufeff"]
EDGES = [
    "", " ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", " \n", "\n ", " \t ", "a", "a ", " a", "  a", "   a", "a  ",
    "a\n", "\na", "a\n\n\nb", "a \n b", "0", " 0", "00", "0 0", "a0", "0a", "'", "''", "'s", " 's", "'S", "'ll", "'lll",
    "it's", "it''s", "it 's", "s'", "don't", "DON'T", "'t't't", "\u2019s", "it\u2019s", "\x00", "a\x00b", "\x7f",
    "\u200d", "\ufe0f", "\ufffd", "\ufffd\ufffd a", "\u2581", "\u2581a", "a\u2581b", " \u2581 ", "<", "<<", "<|", "|>",
    "<0x0A>", "<0xFF>", "\u0120", "\u0120the", "\u010a", "...", "....", ".....", "!?!?", "--", "----------",
    "====================", "a" * 100, "ab" * 80, "\u00e9" * 50, "\u4e2d" * 60, "1" * 40, " " * 40, "\n" * 40,
    "\t" * 40, "." * 80, "\u0e01" * 40, "\U0001f600" * 20, "x" * 700, " x" * 60, "x " * 60,
    "supercalifragilisticexpialidocious", "Donaudampfschifffahrtselektrizit\u00e4tenhauptbetriebswerkbauunterbeamten",
    "pneumonoultramicroscopicsilicovolcanoconiosis" * 4, "ACGTTGCA" * 30, "0x1f 0b1010 1e-9 1_000_000",
    "\U0010ffff", "\U000e0067\U000e0062", "\x04\x06\x13\x14\x16\x1d", "a\x04b c\x1dd",
]
SPECIAL = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>", "<reponame>", "<file_sep>", "<filename>", "<empty_output>",
    "<bos>", "<eos>", "<pad>", "<unk>", "<mask>", "<start_of_turn>", "<end_of_turn>", "<unused0>", "<unused99>",
    "<start_of_image>", "[multimodal]", "</s>", "<s>", "<table>", "</table>", "<h1>", "<|unknown|>", "<im_start>",
]


def random_word(rng):
    low, high = rng.choice(RANGES)
    return "".join(chr(rng.randint(low, high)) for _ in range(rng.choice([1, 1, 2, 3, 4, 6, 9])))


def random_mix(rng):
    parts = []
    for _ in range(rng.randint(1, 9)):
        kind = rng.random()
        if kind < 0.35:
            parts.append(random_word(rng))
        elif kind < 0.6:
            parts.append(rng.choice(rng.choice(SENTENCES).split(" ")))
        elif kind < 0.7:
            zero = rng.choice(DIGIT_ZEROS)
            parts.append("".join(chr(zero + rng.randint(0, 9)) for _ in range(rng.randint(1, 7))))
        elif kind < 0.8:
            parts.append(rng.choice("'\"!?.,;:()[]{}<>/\\|@#$%^&*-_=+~`") * rng.randint(1, 5))
        else:
            parts.append(rng.choice(SPACES) * rng.randint(1, 3))
        if rng.random() < 0.5:
            parts.append(rng.choice(SPACES))
    return "".join(parts)


def random_cut(rng, text):
    start = rng.randint(0, len(text) - 1)
    return text[start:start + rng.randint(1, 60)]


def special_texts(rng):
    texts = list(SPECIAL)
    for token in SPECIAL:
        texts += [f"a{token}b", f" {token} ", token * 3]
    for _ in range(120):
        texts.append("".join(rng.choice(SPECIAL) if rng.random() < 0.5 else random_mix(rng)[:20]
                             for _ in range(rng.randint(2, 5))))
    for role in ("system", "user", "assistant"):
        texts.append(f"<|im_start|>{role}\nHello there!<|im_end|>\n<|im_start|>assistant\n")
        texts.append(f"<start_of_turn>{role}\nHello there!<end_of_turn>\n<start_of_turn>model\n")
    return texts


def ordinary_texts(rng, num_mixed=1250, num_cuts=500):
    texts = EDGES + SENTENCES + CODE
    texts += [space * n + word for space in SPACES for n in (1, 2, 5) for word in ("", "a", "7", "\u4e2d")]
    texts += ["x" + space + word for space in SPACES for word in ("y", "1", "\n", "!")]
    texts += [a + b for a in ("\n", "\n\n\n", "\t\t", "   ") for b in ("  a", "\n", "\t1", "  ", ".")]
    texts += [random_mix(rng) for _ in range(num_mixed)]
    texts += [random_cut(rng, rng.choice(SENTENCES + CODE)) for _ in range(num_cuts)]
    return list(dict.fromkeys(texts))


BROKEN = [
    b"\xff", b"\xff\xff\xff", b"a\xffb", b"\xc3", b"\xc3(", b"\xe2\x82", b"\xe2\x82a", b"\xf0\x9f\x98", b"\xf0\x9f\x98 x",
    b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80", b"abc\x80\x81def", b"\xfe\xfe  \xff  a", b"\xe4\xb8\xad\xe4\xb8",
    b" \xf8\x88\x80\x80\x80 1", b"x\xff\n\n\xffy", bytes(range(128, 256)), b"\xe2\x96", b"\xff\xe2\x96\x81a",
]
