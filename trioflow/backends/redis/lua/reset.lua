-- include: base fenced activities instances sharing ending beginning
-- Begin a new execution of an instance in place of its last one.
-- ARGV: nonce, again, source, the reset, and the two parts of a parent's event (see
-- `terminate_family`). Returns a ResetResult.

local before = answered(ARGV[1], ARGV[2])
if before then
  return before[1]
end
local reset = cmsgpack.unpack(ARGV[4])
local id, life, begin = reset.id, reset.life, reset.beginning
local row = redis.call(
  'HMGET', P .. 'i:' .. id, 'status', 'seq', 'queue', 'worker', 'priority', 'deaths', 'life',
  'execution', 'turns', 'start_at', 'parent', 'indexed',
  'carried'
)
if not row[1] then
  return 'not found'
end
if (row[7] or '') ~= life then
  return 'finished'
end

-- Return the row of an unfinished sub-workflow of the old execution, or nil.
local function child_of(child)
  local found = redis.call(
    'HMGET', P .. 'i:' .. child, 'status', 'worker', 'queue', 'priority', 'deaths', 'start_at',
    'parent', 'parent_execution', 'parent_life'
  )
  local own = found[1] and is_open(found[1]) and found[7] == id
    and tonumber(found[8]) == reset.execution and (found[9] or '') == life
  return own and found or nil
end

local same = tonumber(row[8]) == reset.execution and tonumber(row[9]) == reset.turns
  and redis.call('HLEN', P .. 'x:' .. id) == #reset.inbox
for _, number in ipairs(reset.inbox) do
  same = same and redis.call('HEXISTS', P .. 'x:' .. id, number) == 1
end
local adopted = {}
for _, child in ipairs(reset.adopted) do
  adopted[child] = child_of(child)
  same = same and adopted[child]
end
if not same then
  return 'changed'
end

local execution = reset.execution + 1

-- Nobody holds it any more, nor does it wait anywhere.
local function take_away(instance, worker, queue, priority, deaths)
  if worker and worker ~= '' then
    zrem('held:' .. worker, instance)
  else
    leave_place(instance, queue, priority, is_suspect(deaths))
  end
end

local function adopt(child, found)
  local held = found[2] and found[2] ~= ''
  redis.call('HSET', P .. 'i:' .. child, 'parent_execution', execution, 'sticky', '')
  if not held then
    return
  end
  take_away(child, found[2])
  redis.call('HSET', P .. 'i:' .. child, 'worker', '')
  if is_suspect(found[5]) then
    redis.call('HSET', P .. 'i:' .. child, 'deaths', math.max((tonumber(found[5]) or 0) - 1, 0))
  end
  if found[1] == 'running' then
    list_ready(child, found[3], found[4], found[5], '', first_ready(found[6]))
  end
end

local function renew_row()
  local ended = not is_open(row[1])
  if not ended then
    take_away(id, row[4], row[3], row[5], row[6])
  end
  set_status(id, row[2], row[3], row[1], 'running')
  local fields = { 'deaths', 'outcome', 'custom_status', 'finished_at' }
  if ended then
    zrem('finished', id)
    if row[11] and not reset.keeps_parent then
      zrem('children:' .. row[11], id)
      for _, name in ipairs({ 'parent', 'parent_execution', 'parent_command', 'parent_life' }) do
        fields[#fields + 1] = name
      end
    end
  end
  redis.call('HDEL', P .. 'i:' .. id, unpack(fields))
  unindex(id, row[12])
  flush()
  index(id, row[2], begin.indexed)
  redis.call(
    'HSET', P .. 'i:' .. id, 'status', 'running', 'execution', execution, 'turns', #begin.turns,
    'events', begin.events, 'wake_at', begin.wake_at and exact(begin.wake_at) or '',
    'worker', '', 'sticky', '', 'carried', begin.carried or row[13] or '',
    'attributes', begin.attributes,
    'indexed', begin.indexed or ''
  )
end

keep_execution(id, 'reset', { input = '', metadata = '', finished_at = now_exact })
for child, found in pairs(adopted) do
  adopt(child, found)
end
redis.call('RPUSH', turns_key(id, reset.execution), reset.ending)
redis.call('DEL', P .. 'x:' .. id)
local attempts = {}
each_activity(id, life, function(called_in, command, activity)
  if called_in == reset.execution then
    attempts[command] = activity
  end
  stop_activity(id, called_in, command, life, activity)
end)
renew_row()
flush()
for _, child in ipairs(redis.call('ZRANGE', P .. 'children:' .. id, 0, -1)) do
  local top = not adopted[child] and child_of(child) and open_row(child)
  if top then
    terminate_family(child, top, reset.outcome, ARGV[5], ARGV[6]) -- tells the old execution
  end
end
begin_execution(id, execution, life, begin, attempts)
list_ready(id, row[3], row[5], nil, '', first_ready(row[10]))
flush()
free_shared({ id }) -- what the old execution had
publish(ARGV[3])
return answer(ARGV[1], { 'done' })[1]
