-- The rows of instances: their birth, the delivery to their inboxes, and their end.

local function is_open(status)
  return status == 'running' or status == 'suspended'
end

local queues_seen = {}

local function know_queue(queue)
  if not queues_seen[queue] then
    queues_seen[queue] = true
    sadd('queues', queue)
  end
end

local function set_status(id, seq, queue, before, after)
  zrem('status:' .. before, id)
  zadd('status:' .. after, seq, id)
  if is_open(before) then
    count(before, queue, -1)
  end
  if is_open(after) then
    count(after, queue, 1)
  else
    zadd('finished', now, id)
  end
end

-- List an instance as something to do: its worker's, or anybody's.
local function list_ready(id, queue, priority, worker, ready_at)
  if worker ~= '' then
    zadd('held:' .. worker, ready_at or INF, id)
  elseif ready_at then
    zadd('ready' .. open_lane(queue, priority), ready_at, id)
  end
end

-- Store a new row. `row` has the fields of InstanceCommit's end result.
local function store_instance(id, new, row)
  local seq = next_number('seq')
  local fields = {
    'seq', seq, 'execution', row.execution, 'workflow', new.workflow, 'queue', new.queue,
    'status', row.status, 'turns', row.turns, 'events', row.events,
    'worker', row.worker, 'sticky', row.sticky, 'input', row.input or new.input,
    'created_at', exact(now),
  }
  local function optional(name, value)
    if value and value ~= '' then
      fields[#fields + 1] = name
      fields[#fields + 1] = value
    end
  end
  optional('priority', new.priority)
  optional('metadata', new.metadata)
  optional('wake_at', row.wake_at and exact(row.wake_at))
  optional('carried', row.carried)
  optional('outcome', row.outcome)
  optional('custom_status', row.custom_status)
  local parent = new.parent
  if parent then
    optional('parent', parent.instance)
    optional('parent_execution', parent.execution)
    optional('parent_command', parent.command)
    zadd('children:' .. parent.instance, seq, id)
  end
  if not is_open(row.status) then
    optional('finished_at', exact(now))
    zadd('finished', now, id)
  else
    count(row.status, new.queue, 1)
  end
  redis.call('HSET', P .. 'i:' .. id, unpack(fields))
  zadd('status:' .. row.status, seq, id)
  know_queue(new.queue)
end

-- Delete a finished instance, except for its turns.
local function forget_instance(id)
  local row = redis.call('HMGET', P .. 'i:' .. id, 'status', 'parent')
  zrem('status:' .. row[1], id)
  zrem('finished', id)
  if row[2] then
    zrem('children:' .. row[2], id)
  end
  each_activity(id, function(execution, command, activity)
    unlist_activity(token_of(id, execution, command), activity)
  end)
  redis.call('DEL', P .. 'i:' .. id, P .. 'x:' .. id, P .. 'a:' .. id)
end

-- Make ready what has got something to do; never later than it was.
local function hasten(id, queue, priority, worker)
  local key = P .. (worker ~= '' and 'held:' .. worker or 'ready' .. open_lane(queue, priority))
  local score = redis.call('ZSCORE', key, id)
  if not score or tonumber(score) > now then
    redis.call('ZADD', key, now, id)
  end
end

-- Put one event into an inbox; return whether its target is there and unfinished.
-- What was gathered must have been flushed.
local function deliver(id, execution, event)
  local row = redis.call(
    'HMGET', P .. 'i:' .. id, 'status', 'execution', 'queue', 'worker', 'priority'
  )
  if not row[1] or not is_open(row[1]) then
    return false
  end
  if execution and tonumber(row[2]) ~= execution then
    return false
  end
  local number = next_number('message')
  local value = (execution and string.format('%d', execution) or '') .. ':' .. event
  redis.call('HSET', P .. 'x:' .. id, number, value)
  if row[1] == 'running' then
    hasten(id, row[3], row[5], row[4])
  end
  return true
end

-- Delete an activity whose cancellation was asked for, and report it.
local function drop_cancelled(id, execution, command, activity)
  drop_activity(id, execution, command, activity)
  if activity.cancel and activity.cancel ~= '' then
    deliver(id, execution, activity.cancel)
  end
end
