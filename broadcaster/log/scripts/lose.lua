-- lose: Redis came back without a generation (or without its meta), and no process has written it again: it ends.
-- KEYS log, meta, lease, live channel
-- ARGV JSON to end with, format version, retention_ms, newest epoch that the caller has seen, field, value ... of the meta
-- Returns 1 ended, 0 it is not lost: it has a meta, a lease or an end.
-- In an empty log the end has seq 2: seq 1 stands for what was lost, so every reader tells of a gap before the end.
-- @include tail
local META_OUTLIVES_LOG_MS = 3600000
local FIELDS_FROM = 5
if redis.call('EXISTS', KEYS[2], KEYS[3]) > 0 then return 0 end
local last_epoch, last_seq, bytes, closed = read_tail(KEYS[1])
if closed then return 0 end
local json, retention_ms = ARGV[1], tonumber(ARGV[3])
local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local epoch = string.format('%.0f', math.max(now_ms, last_epoch + 1, tonumber(ARGV[4]) + 1))
local seq = math.max(2, last_seq + 1)
local id = epoch .. '-' .. string.format('%.0f', seq)
local ended_ms = string.format('%.0f', now_ms)
local fields = {'epoch', epoch, 'status', 'failed', 'created_ms', ended_ms, 'ended_ms', ended_ms, 'terminal', json,
  'terminal_id', id}
for i = FIELDS_FROM, #ARGV do fields[#fields + 1] = ARGV[i] end
redis.call('HSET', KEYS[2], unpack(fields))
redis.call('XADD', KEYS[1], id, 'e', json, 'v', ARGV[2], 'b', bytes + #json)
redis.call('PEXPIRE', KEYS[1], retention_ms)
redis.call('PEXPIRE', KEYS[2], retention_ms + META_OUTLIVES_LOG_MS)
redis.call('SPUBLISH', KEYS[4], '1 ' .. epoch .. ' ' .. string.format('%.0f', seq) .. ' 1\n' .. json)
return 1
