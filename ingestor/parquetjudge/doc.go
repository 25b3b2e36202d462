// Package parquetjudge has the files of the Parquet sink read by DuckDB, which shares no code with what wrote them, and compares every
// value of every column. It is a module of its own because DuckDB is a C++ library that nothing else here needs. It has tests only.
package parquetjudge
