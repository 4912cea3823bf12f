"""`python -m tests.llm.providers` measures what becomes of every fault and writes the table into the document."""

from tests.llm.providers.outcomes import DOCUMENT, measured_table, written

if __name__ == "__main__":
    text = DOCUMENT.read_text(encoding="utf-8")
    DOCUMENT.write_text(written(text, measured_table()), encoding="utf-8")
    print(f"wrote {DOCUMENT}")
