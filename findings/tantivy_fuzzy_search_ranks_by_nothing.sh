#!/usr/bin/env bash
# Guess: parse_query(query, ["title"], fuzzy_fields={"title": (False, 1, True)}) forgives a typing error and ranks as before: by BM25, and a
#   title with the word itself above one with a misspelt neighbour of it.
# Happens: every word found counts 1, near or exact, rare or in every title, once or thrice, in a title of two words or of fifty; hits with
#   as many words of the query are equal and come in the order they were indexed. "red sneaker" gives "speaker red" beside "sneaker red";
#   a distance of 0 ranks by nothing too. Wherever fuzzy search is switched on for all queries, BM25 is off. No warning.
# Source: tantivy 0.27.0 (tantivy-py), Index.parse_query, Query.fuzzy_term_query; tantivy's FuzzyTermQuery is a constant score; their pages do
#   not say it. Add the exact query beside it: Query.boolean_query of both as Should, or fuzzy only where nothing is found.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q tantivy==0.27.0
"$folder/venv/bin/python" -W error - <<'PYTHON'
import tantivy

print(tantivy.__version__)
builder = tantivy.SchemaBuilder()
builder.add_text_field("title", stored=True)
schema = builder.build()
index = tantivy.Index(schema)
writer = index.writer(15_000_000, 1)
titles = ["speaker red", "red case for a speaker of any size and make with a strap", "sneaker red", "sneaker blue", *["red shirt"] * 20]
for title in titles:
    writer.add_document(tantivy.Document.from_dict({"title": [title]}, schema))
writer.commit()
index.reload()
searcher = index.searcher()


def search(query, count=4):
    return [(round(score, 2), searcher.doc(address)["title"][0]) for score, address in searcher.search(query, count).hits]


def parse(text, distance=None):
    return index.parse_query(text, ["title"], **({} if distance is None else {"fuzzy_fields": {"title": (False, distance, True)}}))


exact, fuzzy, zero = search(parse("red sneaker")), search(parse("red sneaker", 1)), search(parse("red sneaker", 0))
for name, hits in (("exact", exact), ("fuzzy, distance 1", fuzzy), ("fuzzy, distance 0", zero)):
    print(f"{name}: {hits}")
rare, common = search(parse("blue", 1), 1)[0][0], search(parse("red", 1), 1)[0][0]
print("a rare word, fuzzy:", rare, "a common one:", common)
both = tantivy.Query.boolean_query([(tantivy.Occur.Should, parse("red sneaker")), (tantivy.Occur.Should, parse("red sneaker", 1))])
print("both:", search(both))
assert exact[0][1] == "sneaker red" and exact[0][0] > exact[1][0] and search(both)[0][1] == "sneaker red"
assert [score for score, _ in fuzzy[:3]] == [2.0, 2.0, 2.0] and fuzzy[0][1] == "speaker red"
assert {score for score, _ in zero} == {2.0, 1.0} and rare == common == 1.0
PYTHON
