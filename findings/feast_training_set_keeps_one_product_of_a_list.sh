#!/usr/bin/env bash
# Guess: FeatureStore.get_historical_features of files gives a row for each row it is given, with the features as they were then, and without
#   a value where there is none or it is older than the ttl: ten products shown to a shopper are ten rows, with their labels.
# Happens: of the products of a list one is left, as rows of one shopper and time are taken for one, labels and all. A list whose shopper has
#   features from later only, as on a first visit, or older than the ttl, is gone, while one whose shopper was never seen is kept, without
#   values. Of 50 rows 3 come back, in another order; nothing is said. The features themselves are right.
# Source: feast 0.67.0, offline store "file" (dask.py: _drop_duplicates by join keys and time, _filter_ttl); feast #6787, open, for the first. The page
#   of point-in-time joins has neither. Ask for distinct (shopper, time) and merge the features back to the log by them, how="left".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
# What feast imports here: all that it asks for takes twice as long.
"$folder/venv/bin/pip" install -q --no-deps feast==0.67.0 dask==2026.8.0 pandas==2.3.3 numpy==2.4.6 pyarrow==26.0.1 \
    Jinja2==3.1.6 MarkupSafe==3.0.4 PyJWT==2.15.1 PyYAML==6.0.4 annotated-doc==0.0.7 annotated-types==0.8.0 anyio==4.16.0 \
    attrs==26.1.0 certifi==2026.10.19.post1 charset-normalizer==3.5.3 click==8.5.1 cloudpickle==3.1.3 colorama==0.4.6 \
    dill==0.4.1 fastapi==0.165.0 fsspec==2026.9.0 idna==3.20 importlib_metadata==10.2.0 \
    lazy-importer==0.1.0 mmh3==5.3.1 packaging==26.4 prometheus_client==0.24.1 protobuf==7.36.2 psutil==7.2.2 \
    pydantic==2.14.4 pydantic_core==2.50.5 python-dateutil==4.0.0 pytz==2026.6 requests==2.34.2 starlette==1.10.0 \
    toolz==1.2.0 tqdm==4.70.1 typeguard==4.6.1 typing-inspection==0.4.5 typing_extensions==4.16.0 tzdata==2026.6 urllib3==2.8.0 \
    uvicorn==0.54.0 zipp==4.1.2 tenacity==8.5.0 tabulate==0.10.0 \
    opentelemetry-api==1.45.2 gunicorn==27.0.1 SQLAlchemy==2.1.9
cd "$folder"
cat > feature_store.yaml <<'YAML'
project: shop
registry: registry.db
provider: local
offline_store:
  type: file
entity_key_serialization_version: 3
YAML
OPENBLAS_NUM_THREADS=1 "$folder/venv/bin/python" - <<'PYTHON'
import warnings
from datetime import timedelta
from importlib.metadata import version

import pandas as pd

warnings.simplefilter("ignore")
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, ValueType
from feast.types import Int64

print("feast", version("feast"))


def day(number: int) -> pd.Timestamp:
    return pd.Timestamp("2026-03-01", tz="UTC") + pd.Timedelta(days=number)


# Shopper 1 has features of two days; 2 of one, from before the ttl; 3 of one, from after the list; 4 of none; 5 of the same day.
known = {"shopper": [1, 1, 2, 3, 5], "time": [day(1), day(5), day(0), day(9), day(6)], "clicks": [10, 50, 7, 90, 60]}
pd.DataFrame(known).to_parquet("features.parquet")
shopper = Entity(name="shopper", join_keys=["shopper"], value_type=ValueType.INT64)
source = FileSource(path="features.parquet", timestamp_field="time")
view = FeatureView(
    name="tastes", entities=[shopper], ttl=timedelta(days=4), schema=[Field(name="clicks", dtype=Int64)], source=source
)
store = FeatureStore(".")
store.apply([shopper, view])


def joined(log: pd.DataFrame) -> pd.DataFrame:
    return store.get_historical_features(log, ["tastes:clicks"]).to_df()


lists = [(1, day(6)), (2, day(6)), (3, day(6)), (4, day(6)), (5, day(6))]
rows = [(who, when, f"product {n}", n == 3) for who, when in lists for n in range(10)]
log = pd.DataFrame(rows, columns=["shopper", "event_timestamp", "product", "clicked"])
got = joined(log)
print(got.to_string())
print(f"{len(log)} rows of {len(lists)} lists given, {len(got)} back; clicks given {log.clicked.sum()}, back {got.clicked.sum()}")
assert sorted(got.shopper) == [1, 4, 5]
assert got.clicked.sum() < 4
clicks = got.set_index("shopper").clicks
assert (clicks[1], clicks[5]) == (50, 60)
assert pd.isna(clicks[4])
# By hand: each (shopper, time) once, and a left join back to the log.
asked = log[["shopper", "event_timestamp"]].drop_duplicates()
merged = log.merge(joined(asked), how="left", on=["shopper", "event_timestamp"])
print("merged to the log:", len(merged), "rows,", int(merged.clicked.sum()), "clicks,", int(merged.clicks.notna().sum()), "with a value")
assert (len(merged), merged.clicked.sum(), merged.clicks.notna().sum()) == (50, 5, 20)
PYTHON
