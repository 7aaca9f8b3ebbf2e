package redis

import "github.com/redis/go-redis/v9"

// layout is where the store is in Redis. The braces put all of it into one slot of a cluster.
type layout struct {
	meta    string // hash: id, made at random with the store; rev, the highest revision given out
	changes string // sorted set: key → revision of its latest change, deletes included
	// sorted set, all of score 0, which Redis keeps in byte order: the keys that have a value
	names string
	value string // prefix of the strings that are the values
}

func newLayout(prefix string) layout {
	p := "{" + prefix + "}:"
	return layout{p + "meta", p + "changes", p + "names", p + "v:"}
}

// keys are the KEYS of a script.
func (l layout) keys(keys ...string) []string {
	all := []string{l.meta, l.changes, l.names}
	for _, key := range keys {
		all = append(all, l.value+key)
	}
	return all
}

// Every script begins so: it does nothing on a server that is a replica by now, whose connections
// are still open, nor where the store is not the one that was opened. KEYS are as in layout;
// ARGV[1] is the store's id. Every script returns OK, the highest revision, the history that the
// server's data belongs to (Redis gives it a new id at each failover and restart), and more.
// Revisions are printed by hand, since Lua would round them to 14 digits.
const begin = `
local info = redis.call('INFO', 'replication')
if not string.find(info, 'role:master', 1, true) then
	return redis.error_reply('READONLY You can\'t write against a read only replica.')
end
local meta = redis.call('HMGET', KEYS[1], 'id', 'rev')
local head = tonumber(meta[2] or 0)
local history = string.match(info, 'master_replid:(%x+)')
local function replicas() return string.find(info, 'state=online', 1, true) and 1 or 0 end
local function exact(rev) return string.format('%.0f', rev) end
`

const same = begin + `
if meta[1] ~= ARGV[1] then return {'LOST'} end
`

var (
	// 2: the revision above which the store's are to be, 3: an id. Makes the store if there is
	// none, and returns its id, and as swapScript does.
	makeScript = redis.NewScript(begin + `
local made = redis.call('HSETNX', KEYS[1], 'id', ARGV[3])
local now = redis.call('TIME')
local rev = math.max(head, tonumber(ARGV[2]) + 1)
if made == 1 then rev = math.max(rev, now[1] * 1000000 + now[2]) end
if rev > head then redis.call('HSET', KEYS[1], 'rev', exact(rev)) end
return {'OK', rev, history, redis.call('HGET', KEYS[1], 'id'), made == 1 and replicas() or -1}`)

	// 2: a revision. Makes the highest revision higher.
	raiseScript = redis.NewScript(same + `
if head <= tonumber(ARGV[2]) then
	head = tonumber(ARGV[2]) + 1
	redis.call('HSET', KEYS[1], 'rev', exact(head))
end
return {'OK', head, history}`)

	// 2: the key. Returns its revision and value, or nil.
	getScript = redis.NewScript(same + `
local val = redis.call('GET', KEYS[4])
if not val then return {'OK', head, history} end
return {'OK', head, history, tonumber(redis.call('ZSCORE', KEYS[2], ARGV[2])), val}`)

	// From 2 on: keys, which are in KEYS too. Returns the revision and value of each, or false for
	// both where there is none.
	getAllScript = redis.NewScript(same + `
local out = {'OK', head, history}
for i = 2, #ARGV do
	local val = redis.call('GET', KEYS[i + 2])
	out[#out + 1] = val and (tonumber(redis.call('ZSCORE', KEYS[2], ARGV[i])) or -1)
	out[#out + 1] = val
end
return out`)

	// 2: the key, 3: its revision, 4: the highest revision that the caller has seen, 5: the value,
	// or not there. Returns the new revision and whether the master has a replica in order: 1, 0,
	// or -1 where nothing was written.
	//
	// Redis refuses a script that wants to write (out of memory, a disk that fails, too few
	// replicas) at its first command that does, so nothing is ever half done. A delete begins with
	// a command that is allowed when memory is full.
	swapScript = redis.NewScript(same + `
local key, val = ARGV[2], ARGV[5]
local at = 0
if redis.call('EXISTS', KEYS[4]) == 1 then at = tonumber(redis.call('ZSCORE', KEYS[2], key)) end
if at ~= tonumber(ARGV[3]) then return {'CONFLICT'} end
if not val and at == 0 then return {'OK', head, history, head, -1} end
local now = redis.call('TIME')
local rev = math.max(now[1] * 1000000 + now[2], head + 1, tonumber(ARGV[4]) + 1)
if rev >= 9007199254740992 then return redis.error_reply('ERR revisions are at their end') end
if not val then redis.call('ZREM', KEYS[3], key) end
redis.call('HSET', KEYS[1], 'rev', exact(rev))
redis.call('ZADD', KEYS[2], exact(rev), key)
if val then
	redis.call('ZADD', KEYS[3], 0, key)
	redis.call('SET', KEYS[4], val)
else
	redis.call('DEL', KEYS[4])
end
return {'OK', rev, history, rev, replicas()}`)

	// 2: the highest revision that the caller has seen; then for each change its key, its revision,
	// whether it has a value, and that (or ""); the keys are in KEYS too. Returns the highest
	// revision, and whether the master has a replica in order, as swapScript does; then the new
	// revision of each change, or 0 for a conflict. Redis refuses all of it, or nothing: deletes
	// alone pass when memory is full.
	swapAllScript = redis.NewScript(same + `
local now = redis.call('TIME')
local rev = math.max(now[1] * 1000000 + now[2], head + 1, tonumber(ARGV[2]) + 1)
if rev + #ARGV >= 9007199254740992 then return redis.error_reply('ERR revisions are at their end') end
local out, wrote = {}, false
for i = 0, (#ARGV - 2) / 4 - 1 do
	local key, has, val, name = ARGV[4 * i + 3], ARGV[4 * i + 5] == '1', ARGV[4 * i + 6], KEYS[4 + i]
	local at = 0
	if redis.call('EXISTS', name) == 1 then at = tonumber(redis.call('ZSCORE', KEYS[2], key)) end
	if at ~= tonumber(ARGV[4 * i + 4]) then
		out[i + 1] = 0
	elseif not has and at == 0 then
		out[i + 1] = wrote and rev - 1 or head
	else
		if has then redis.call('SET', name, val) else redis.call('DEL', name) end
		if has then redis.call('ZADD', KEYS[3], 0, key) else redis.call('ZREM', KEYS[3], key) end
		redis.call('ZADD', KEYS[2], exact(rev), key)
		out[i + 1] = rev
		rev, wrote = rev + 1, true
	end
end
if not wrote then return {'OK', head, history, head, -1, out} end
redis.call('HSET', KEYS[1], 'rev', exact(rev - 1))
return {'OK', rev - 1, history, rev - 1, replicas(), out}`)

	// 2: a revision, 3: a prefix, 4: how many changes to look at. Returns the revision of the last
	// one that it looked at, whether there may be more, and the keys under the prefix.
	changedScript = redis.NewScript(same + `
local list = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. ARGV[2], '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[4])
local last, keys = head, {}
for i = 1, #list, 2 do
	if string.sub(list[i], 1, #ARGV[3]) == ARGV[3] then keys[#keys + 1] = list[i] end
	last = tonumber(list[i + 1])
end
return {'OK', head, history, last, #list == 2 * tonumber(ARGV[4]) and 1 or 0, keys}`)

	// 2, 3: from and to, as ZRANGEBYLEX has them, 4: how many. Returns keys.
	namesScript = redis.NewScript(same + `
return {'OK', head, history, redis.call('ZRANGEBYLEX', KEYS[3], ARGV[2], ARGV[3], 'LIMIT', 0, ARGV[4])}`)

	// Returns seconds and microseconds.
	timeScript = redis.NewScript(same + `
local now = redis.call('TIME')
return {'OK', head, history, tonumber(now[1]), tonumber(now[2])}`)
)
