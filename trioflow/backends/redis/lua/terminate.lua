-- include: base activities instances
-- End an instance and its unfinished descendants.
-- ARGV: nonce, again, source, instance, outcome, life (see `is_meant`), and the two parts of its
-- parent's event, between which stands the parent's command. Returns an Update.

local before = answered(ARGV[1], ARGV[2])
if before then
  return before[1]
end

local function open_row(id)
  local row = redis.call(
    'HMGET', P .. 'i:' .. id, 'status', 'seq', 'queue', 'worker', 'parent', 'parent_execution',
    'priority', 'life', 'deaths', 'parent_life', 'parent_command'
  )
  return row[1] and is_open(row[1]) and row or nil
end

local function end_one(id, row)
  set_status(id, row[2], row[3], row[1], 'terminated')
  if row[4] and row[4] ~= '' then
    zrem('held:' .. row[4], id)
  else
    zrem(place_of(row[3], row[7], is_suspect(row[9])), id)
  end
  redis.call(
    'HSET', P .. 'i:' .. id, 'status', 'terminated', 'outcome', ARGV[5], 'finished_at', now_exact,
    'worker', '', 'sticky', '', 'wake_at', ''
  )
  redis.call('DEL', P .. 'x:' .. id)
  each_activity(id, row[8] or '', function(execution, command, activity, life)
    stop_activity(id, execution, command, life, activity)
  end)
end

local top = open_row(ARGV[4])
if not top then
  return redis.call('EXISTS', P .. 'i:' .. ARGV[4]) == 1 and 'finished' or 'not found'
end
if not is_meant(top[8], ARGV[6]) then
  return 'finished'
end
local family, at, rows = { ARGV[4] }, 1, { [ARGV[4]] = top }
while family[at] do
  for _, child in ipairs(redis.call('ZRANGE', P .. 'children:' .. family[at], 0, -1)) do
    local row = not rows[child] and open_row(child)
    -- A child of an earlier life of the id goes on.
    if row and (row[10] or '') == (rows[family[at]][8] or '') then
      rows[child] = row
      family[#family + 1] = child
    end
  end
  at = at + 1
end
for _, id in ipairs(family) do
  end_one(id, rows[id])
end
flush()
if top[5] then
  local event = ARGV[7] .. cjson.encode(top[11] or '') .. ARGV[8]
  deliver(top[5], { execution = tonumber(top[6]), life = top[10] or '', event = event })
  flush()
end
publish(ARGV[3])
return answer(ARGV[1], { 'done' })[1]
