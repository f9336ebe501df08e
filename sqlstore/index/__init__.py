"""The SQLite file: the log made queryable.

`engine` is the only module that opens it; `tables` declares it, `ddl` creates it, `records` fills
and reads it, `query` runs what people ask, `expressions` runs SQLAlchemy criteria, `values`
converts what is bound, `versions` decides whether this library can use it.
"""
