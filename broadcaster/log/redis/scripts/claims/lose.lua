-- lose: Redis came back without a generation (or without its meta), and no process has restored it: it ends.
-- KEYS log, meta, lease, live channel
-- ARGV terminal event as JSON, format version, retention_ms, newest epoch that the caller has seen, field, value ... of the
--      meta
-- Returns 1 ended, 0 it is not lost: it has a meta, a lease or an end.
-- In an empty log the end has seq 2: seq 1 stands for what was lost, so that every reader reports a gap before the end.
-- @include entry
-- @include expiry
-- @include tail
local FIELDS_FROM = 5
if redis.call('EXISTS', KEYS[2], KEYS[3]) > 0 then return 0 end
local last_epoch, last_seq, bytes, closed = read_tail(KEYS[1])
if closed then return 0 end
local now_ms = read_clock()
local epoch = math.max(now_ms, last_epoch + 1, tonumber(ARGV[4]) + 1)
local id = add_entry(KEYS[1], KEYS[4], epoch, math.max(2, last_seq + 1), ARGV[1], ARGV[2], bytes)
local fields = {'epoch', digits(epoch), 'status', 'failed', 'created_ms', digits(now_ms), 'ended_ms', digits(now_ms),
  'terminal', ARGV[1], 'terminal_id', id}
for i = FIELDS_FROM, #ARGV do fields[#fields + 1] = ARGV[i] end
redis.call('HSET', KEYS[2], unpack(fields))
keep_stream(KEYS[1], KEYS[2], ARGV[3])
return 1
