package mysql

import "time"

// labWait is a timeout that nothing reaches.
const labWait = time.Minute
