package wal

const repairDirName = "repair.tmp"
