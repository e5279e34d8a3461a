"""The chat page in a real browser: a person types, sees text stream in, stops an answer."""

import unittest

from browser import Browser
from harness import Server, run_tests, wait_until

LAST = "[...document.querySelectorAll('#messages .message.assistant')].at(-1)"
DONE = f"{LAST}?.dataset.state === 'done'"


class Page(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server()
        cls.browser = Browser()

    @classmethod
    def tearDownClass(cls):
        cls.browser.close()
        cls.server.close()

    def setUp(self):
        self.browser.problems.clear()
        self.browser.open(self.server.url + "/")
        self.browser.wait_for("document.querySelector('#prompt') !== null")

    def tearDown(self):
        self.assertEqual(self.browser.problems, [])

    def ask(self, text):
        self.browser.click("#prompt")
        self.browser.type_text(text)

    def test_a_chat_streams_an_answer_and_remembers_it(self):
        self.ask("What is the capital of France? Answer in one word.")
        self.browser.press_enter()
        self.browser.wait_for(DONE)
        first = self.browser.evaluate(f"{LAST}.textContent")
        self.assertTrue(first.strip(), "an empty answer")
        prompts = self.server.status()["counters"]["prompt_tokens"]

        self.ask("Now tell me about the weather there.")
        self.browser.click("#send")
        self.browser.wait_for("document.querySelectorAll('#messages .message.assistant').length"
                              f" === 2 && {DONE}")
        second = self.browser.evaluate(f"{LAST}.textContent")
        self.assertTrue(second.strip())
        texts = self.browser.evaluate("document.querySelector('#messages').textContent")
        self.assertIn("capital of France", texts)
        self.assertIn(first.strip()[:20], texts)
        # The second prompt holds the whole conversation.
        self.assertGreater(self.server.status()["counters"]["prompt_tokens"] - prompts, 40)

    def test_text_grows_while_the_answer_runs_and_stop_ends_it(self):
        self.ask("Write a very long story about a ship, with many chapters.")
        self.browser.press_enter()
        length = f"({LAST}?.textContent.length ?? 0)"
        self.browser.wait_for(f"{length} > 10")
        early = self.browser.evaluate(length)
        self.browser.wait_for(f"{length} > {early} + 20")
        self.assertNotEqual(self.browser.evaluate(f"{LAST}.dataset.state"), "done")
        self.browser.click("#stop")
        self.browser.wait_for(DONE, 20)
        self.assertTrue(wait_until(lambda: self.server.pages_in_use() == 0, 10))

    def test_markup_in_messages_stays_text(self):
        self.ask("<img src=x onerror=\"window.broken = true\"> <script>window.broken = true</script>")
        self.browser.press_enter()
        self.browser.wait_for(DONE)
        self.assertIsNone(self.browser.evaluate("window.broken ?? null"))
        self.assertEqual(self.browser.evaluate("document.querySelectorAll('#messages img').length"),
                         0)


if __name__ == "__main__":
    run_tests()
