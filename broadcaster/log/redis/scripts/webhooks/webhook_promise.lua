-- webhook_promise: promise a generation's webhook: it is checked until it is delivered, whichever process ends the
-- generation.
-- KEYS promised, due; of a promise that is not restored also the set of its tenant's
-- ARGV generation id, most pending, check_ms, 1: an id that may be used anew (a feed's); with the set also the most pending
--      of the tenant, ms that the set is kept
-- Returns 1 promised, 0 it was promised already, -1 as many are pending as may be, -2 as many of the tenant's.
-- What is delivered or dropped stays in the tenant's set until a promise finds it there: each checks those that were
-- checked longest ago, and more of them at the bound. The set is never emptied here: its ZREM comes last, and leaves some.
-- The webhook of an id's former stream may still be due, or be about to be dropped: the promise of its new one is beside
-- the former one's, and has a time of its own.
-- @include clock
local is_promised, is_due = redis.call('ZSCORE', KEYS[1], ARGV[1]), redis.call('ZSCORE', KEYS[2], ARGV[1])
if ARGV[4] ~= '1' and (is_promised or is_due) then return 0 end
if not is_promised and not is_due and redis.call('ZCARD', KEYS[1]) + redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[2]) then return -1 end
local now_ms = read_clock()
local CHECKED, CHECKED_AT_BOUND = 16, 512
local scored, gone = {}, {}
local function note_checks()
  if #scored > 0 then redis.pcall('ZADD', KEYS[3], unpack(scored)) end
  if #gone > 0 then redis.call('ZREM', KEYS[3], unpack(gone)) end
end
if KEYS[3] then
  local most, held = tonumber(ARGV[5]), redis.call('ZCARD', KEYS[3])
  local is_held = redis.call('ZSCORE', KEYS[3], ARGV[1])
  for _, id in ipairs(redis.call('ZRANGE', KEYS[3], 0, (held >= most and CHECKED_AT_BOUND or CHECKED) - 1)) do
    if redis.call('ZSCORE', KEYS[1], id) or redis.call('ZSCORE', KEYS[2], id) then
      scored[#scored + 1], scored[#scored + 2] = digits(now_ms), id
    elseif id ~= ARGV[1] then
      gone[#gone + 1] = id
    end
  end
  if not is_promised and not is_due and held - #gone - (is_held and 1 or 0) >= most then
    note_checks()
    return -2
  end
end
-- The half of a millisecond makes it another time than that of a check which took the former promise a moment ago.
redis.call('ZADD', KEYS[1], digits(now_ms + tonumber(ARGV[3])) .. (ARGV[4] == '1' and '.5' or ''), ARGV[1])
if KEYS[3] then
  redis.pcall('ZADD', KEYS[3], digits(now_ms), ARGV[1])
  redis.pcall('PEXPIRE', KEYS[3], ARGV[6])
  note_checks()
end
return is_promised and 0 or 1
