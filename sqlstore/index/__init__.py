"""The SQLite file: the log made queryable.

`engine` is the only module that opens it; `tables` declares it, `ddl` creates it, `records` fills and
reads it, `query` runs what people ask, `expressions` turns SQLAlchemy criteria into SQL, `migrate`
brings an older one up to date.
"""
