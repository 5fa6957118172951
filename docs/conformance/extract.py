#!/usr/bin/env python3
"""Writes the sentences with MUST or MUST NOT of an RFC's source (kramdown, as the QUIC working group keeps it) as lines
`section<TAB>sentence`. Usage: extract.py rfc9000.md > rfc9000.txt

The lists are committed; docs/conformance.md quotes them, and a test compares the two."""
import re
import sys


def plain(text):
    text = re.sub(r"\{\{[^}]*?([^}/]*?)\}\}", lambda m: "[" + m.group(1).lstrip("?!") + "]", text)
    text = re.sub(r"\{:[^}]*\}", "", text)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    return re.sub(r"\s+", " ", text.replace("`", "").replace("\\", "").replace("*", "")).strip()


def sentences(text):
    text = plain(text)
    return re.split(r"(?<=[.!?:;])\s+(?=[A-Z\[(])", text)


def main(path):
    numbers, appendix, out = [0] * 6, False, []
    block, fence, started = [], False, False
    section = "0"

    def flush():
        for sentence in sentences(" ".join(block)):
            if re.search(r"\bMUST\b", sentence):
                out.append((section, sentence.lstrip("-: ").strip()))
        block.clear()

    for line in open(path, encoding="utf-8"):
        line = line.rstrip("\n")
        if line.startswith("--- middle"):
            started = True
            continue
        if line.startswith("--- back"):
            flush()
            appendix, numbers = True, [0] * 6
            continue
        if not started:
            continue
        if line.startswith(("~~~", "```")):
            flush()
            fence = not fence
            continue
        if fence:
            continue
        heading = re.match(r"(#+) ", line)
        if heading:
            flush()
            depth = len(heading.group(1))
            numbers[depth - 1] += 1
            numbers[depth:] = [0] * (6 - depth)
            head = chr(64 + numbers[0]) if appendix else str(numbers[0])
            section = ".".join([head] + [str(n) for n in numbers[1:depth]])
            continue
        if not line.strip() or re.match(r"\s*(\*|-|\d+\.)\s", line) or line.startswith("|"):
            flush()
            if not line.strip():
                continue
        block.append(line)
    flush()
    for section, sentence in out:
        print(f"{section}\t{sentence}")


main(sys.argv[1])
