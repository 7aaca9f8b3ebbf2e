// Package journal keeps the newest events of a replica on its disk, and finds them by their time.
//
// Its rules:
//
//   - It is bounded. The oldest lines give way, those about nodes before all others: nodes that
//     come and go have segments of their own.
//   - A line is written with one call, and is not synced at once. So kill -9 loses nothing, and a
//     machine that crashes loses the last seconds. A torn last line is cut off at the next start.
//   - A line is JSON. Fields that this version does not know are passed over.
//   - Each line has a number, which grows. It parts lines of one moment.
//
// It does not know what the events mean. Which ones are written, and how many a minute, decides
// who calls Append.
package journal
