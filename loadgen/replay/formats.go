package replay

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
)

// readCSV reads a file whose first line names the columns. Fields that are JSON numbers become numbers, "true" and "false" become
// booleans, empty fields are left out, all others are text.
func readCSV(content []byte, add func(map[string]any) error) error {
	reader := csv.NewReader(bytes.NewReader(content))
	reader.ReuseRecord = true
	first, err := reader.Read()
	if err != nil {
		return fmt.Errorf("header: %w", err)
	}
	names := append([]string(nil), first...)
	for {
		fields, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		columns := make(map[string]any, len(fields))
		for i, field := range fields {
			if field != "" {
				columns[names[i]] = csvValue(field)
			}
		}
		if err := add(columns); err != nil {
			return err
		}
	}
}

func csvValue(field string) any {
	if field == "true" || field == "false" {
		return field == "true"
	}
	if c := field[0]; (c == '-' || c >= '0' && c <= '9') && json.Valid([]byte(field)) {
		return json.Number(field)
	}
	return field
}

// readNDJSON reads a file with one JSON object a line.
func readNDJSON(content []byte, add func(map[string]any) error) error {
	number := 0
	return splitLines(content, func(line []byte) error {
		number++
		decoder := json.NewDecoder(bytes.NewReader(line))
		decoder.UseNumber()
		var columns map[string]any
		if err := decoder.Decode(&columns); err != nil {
			return fmt.Errorf("object %d: %w", number, err)
		}
		return add(columns)
	})
}

// readParquet reads a Parquet file. Values become what Arrow's JSON makes of them; timestamps stay times.
func readParquet(content []byte, add func(map[string]any) error) (err error) {
	parquetReader, err := file.NewParquetReader(bytes.NewReader(content))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, parquetReader.Close()) }()
	const batchRows = 4096
	reader, err := pqarrow.NewFileReader(parquetReader, pqarrow.ArrowReadProperties{BatchSize: batchRows}, memory.DefaultAllocator)
	if err != nil {
		return err
	}
	batches, err := reader.GetRecordReader(context.Background(), nil, nil)
	if err != nil {
		return err
	}
	defer batches.Release()
	for batches.Next() {
		batch := batches.RecordBatch()
		for i := range int(batch.NumRows()) {
			columns := make(map[string]any, batch.NumCols())
			for j, column := range batch.Columns() {
				if column.IsValid(i) {
					columns[batch.ColumnName(j)] = arrowValue(column, i)
				}
			}
			if err := add(columns); err != nil {
				return err
			}
		}
	}
	if err := batches.Err(); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

func arrowValue(column arrow.Array, i int) any {
	switch a := column.(type) {
	case *array.Timestamp:
		unit := a.DataType().(*arrow.TimestampType).Unit
		return time.Unix(0, int64(a.Value(i))*int64(unit.Multiplier())).UTC()
	case *array.Int64:
		return json.Number(fmt.Sprint(a.Value(i)))
	case *array.Float64:
		if v := a.Value(i); !math.IsNaN(v) && !math.IsInf(v, 0) {
			return json.Number(fmt.Sprint(v))
		}
		return nil
	}
	return column.GetOneForMarshal(i)
}
