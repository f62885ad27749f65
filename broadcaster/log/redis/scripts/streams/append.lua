-- append: write the next entries of a stream, once, fenced, and push them in the same step.
-- KEYS log, meta, live channel, lease
-- ARGV epoch, first_seq, max_events, max_bytes, push_max_bytes, live_ttl_ms, retention_ms, format version,
--      status the batch ends the generation with ('' when it does not), event JSON ...
-- Without events it only checks: is the writer's last entry (first_seq - 1) still the log's?
-- Returns {code, last epoch, last seq, stop requested (0 no, 1 stopped, 2 abandoned)}: 1 appended, 0 duplicate,
-- -1 fenced, -2 closed, -3 rewound (Redis lost the tail this batch builds on), -4 full, -5 forgotten (meta is gone or older
-- than this epoch's grant: it must be restored first). Checked in the order of docs/protocol.md §3, forgotten after fenced.
-- The bounds are those of the last attempt (void_seq and void_bytes: what was written before it), so that an answer that
-- fits does not end because of text that is void. All attempts together may hold ALL_ATTEMPTS_TIMES as much.
-- @include clock
-- @include expiry
-- @include tail
local EVENTS_FROM = 10
local ALL_ATTEMPTS_TIMES = 4
local epoch, first = tonumber(ARGV[1]), tonumber(ARGV[2])
local count = #ARGV - EVENTS_FROM + 1
local last = first + count - 1

local meta = redis.call('HMGET', KEYS[2], 'epoch', 'stop')
local granted = tonumber(meta[1] or 0)
local stop = meta[2] == 'abandoned' and 2 or meta[2] and 1 or 0

local last_epoch, last_seq, bytes, closed = read_tail(KEYS[1])
local function answer(code, at_epoch, at_seq) return {code, at_epoch, at_seq, stop} end

if epoch < granted or epoch < last_epoch then return answer(-1, last_epoch, last_seq) end
if epoch > granted then return answer(-5, last_epoch, last_seq) end
if epoch == last_epoch and last <= last_seq then return answer(0, last_epoch, last_seq) end
if closed then return answer(-2, last_epoch, last_seq) end

-- The stream is over: how much longer it is kept (0 or less: no longer); nil for one that is open. Until its webhook's
-- final state a stream is kept for that (ARGV retention_ms), then for as long as its caller has requested.
local function read_left_ms()
  local over = redis.call('HMGET', KEYS[2], 'status', 'ended_ms', 'webhook_state', 'asked_retention_ms')
  if not is_over(over[1]) or not over[2] then return nil end
  return tonumber(over[2]) + tonumber(over[3] and over[4] or ARGV[7]) - read_clock()
end
-- The log has expired. Its entries must not return.
if last_seq == 0 and (read_left_ms() or 1) <= 0 then return answer(0, last_epoch, last_seq) end
if first > last_seq + 1 or (epoch ~= last_epoch and first <= last_seq) then
  return answer(-3, last_epoch, last_seq)
end
if count == 0 then return answer(0, last_epoch, last_seq) end

local skip = last_seq - first + 1
local ends = ARGV[9] ~= ''
-- The terminal event is always admitted: it counts for neither bound.
local counted = ends and #ARGV - 1 or #ARGV
local total = bytes
for i = EVENTS_FROM + skip, counted do total = total + #ARGV[i] end
local total_events, max_events, max_bytes = first + counted - EVENTS_FROM, tonumber(ARGV[3]), tonumber(ARGV[4])
if counted >= EVENTS_FROM + skip and (total_events > max_events or total > max_bytes) then
  local void = redis.call('HMGET', KEYS[2], 'void_seq', 'void_bytes')
  local function exceeds(has, void_part, most)
    return has - tonumber(void_part or 0) > most or has > ALL_ATTEMPTS_TIMES * most
  end
  if exceeds(total_events, void[1], max_events) or exceeds(total, void[2], max_bytes) then
    return answer(-4, last_epoch, last_seq)
  end
end

for i = EVENTS_FROM + skip, #ARGV do
  bytes = bytes + #ARGV[i]
  local seq = first + i - EVENTS_FROM
  redis.call('XADD', KEYS[1], string.format('%s-%.0f', ARGV[1], seq), 'e', ARGV[i], 'v', ARGV[8], 'b', bytes)
end
if ends then
  -- An end that was lost from the log and is sent again leaves its time and the retention as they are.
  local left_ms = read_left_ms()
  redis.call('HSETNX', KEYS[2], 'ended_ms', digits(read_clock()))
  redis.call('HSET', KEYS[2], 'status', ARGV[9],
    'terminal', ARGV[#ARGV], 'terminal_id', string.format('%s-%.0f', ARGV[1], last))
  redis.call('DEL', KEYS[4])
  keep_stream(KEYS[1], KEYS[2], left_ms and digits(math.max(1, left_ms)) or ARGV[7])
elseif last_seq == 0 then
  redis.call('PEXPIRE', KEYS[1], ARGV[6])
end

local from = last_seq + 1
local head = string.format('1 %s %.0f %.0f', ARGV[1], from, last - from + 1)
local parts, size = {head}, 0
for i = EVENTS_FROM + skip, #ARGV do
  parts[#parts + 1] = ARGV[i]
  size = size + #ARGV[i]
end
-- A batch over the bound is pushed as its head alone, a poke: the front-end reads it from the log.
redis.call('SPUBLISH', KEYS[3], size <= tonumber(ARGV[5]) and table.concat(parts, '\n') or head)
return answer(1, epoch, last)
