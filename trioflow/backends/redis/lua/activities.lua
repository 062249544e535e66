-- The rows of activities, and the indexes that say who may take or holds them.
-- An activity is named by instance, execution, command and life; '' is the life of what began before
-- lives had names. A row is the packed fields in the order of `pack_activity`; `cancel` is false
-- unless asked for, and '' if nobody is to hear of the end.

-- Activities that have a key wait in lanes of their own, named by queue and key.
local function lane_name(queue, key)
  return (key or '') == '' and queue or queue .. '\0' .. key
end

-- Return the lane in which an activity is to wait, which may not have occurred before.
local function waiting_lane(queue, priority, key)
  if (key or '') ~= '' then
    zadd('keys:' .. queue, 0, key)
  end
  return open_lane(lane_name(queue, key), priority)
end

local function activities_key(id, life)
  return life == '' and P .. 'a:' .. id or P .. 'a/' .. life .. ':' .. id
end

local function token_of(id, execution, command, life)
  if life == '' then
    return execution .. ':' .. #command .. ':' .. command .. id
  end
  return execution .. '/' .. #life .. ':' .. #command .. ':' .. life .. command .. id
end

local function field_of(execution, command)
  return execution .. ':' .. command
end

-- Returns id, execution, command, life.
local function parse_token(token)
  local execution, size, length, rest = string.match(token, '^(%d+)/(%d+):(%d+):(.*)$')
  if not execution then
    execution, length, rest = string.match(token, '^(%d+):(%d+):(.*)$')
    size = 0
  end
  local from = size + 1
  local to = size + length
  return string.sub(rest, to + 1), tonumber(execution), string.sub(rest, from, to),
    string.sub(rest, 1, size)
end

local function pack_activity(row)
  return cmsgpack.pack(
    row.worker, row.queue, row.cancel, row.attempt, row.visible_at, row.scheduled_at,
    row.activity, row.input, row.options, row.failure, row.priority or 0, row.progress or '',
    row.limit_key or ''
  )
end

-- Return what stands for a row that cannot be read: nobody's, and never given to anybody.
local function damaged_activity()
  return {
    worker = '', queue = '', cancel = false, attempt = 1, visible_at = 0, scheduled_at = 0,
    activity = '', input = '', options = '', failure = '', priority = 0, progress = '',
    limit_key = '', damaged = true,
  }
end

local function unpack_activity(packed)
  local could, worker, queue, cancel, attempt, visible_at, scheduled_at, activity, input, options,
    failure, priority, progress, limit_key = pcall(cmsgpack.unpack, packed)
  local whole = could and type(worker) == 'string' and type(queue) == 'string'
    and type(attempt) == 'number' and type(scheduled_at) == 'number'
    and type(activity) == 'string' and type(failure) == 'string'
  if not whole then
    return damaged_activity()
  end
  return {
    worker = worker, queue = queue, cancel = cancel, attempt = attempt,
    visible_at = visible_at, scheduled_at = scheduled_at,
    activity = activity, input = input, options = options, failure = failure,
    priority = priority or 0, progress = progress or '', limit_key = limit_key or '',
  }
end

local function load_activity(id, execution, command, life)
  local packed = redis.call('HGET', activities_key(id, life), field_of(execution, command))
  return packed and unpack_activity(packed) or nil
end

-- Note that an activity is tried again. Not gathered: the same one may be dropped soon.
local function note_attempt(id, execution, command, life, row)
  if row.attempt > 1 then
    redis.call('ZADD', P .. 'retried', 0, token_of(id, execution, command, life))
  end
end

local function store_activity(id, execution, command, life, row)
  note_attempt(id, execution, command, life, row)
  redis.call('HSET', activities_key(id, life), field_of(execution, command), pack_activity(row))
end

local function hold_activity(token, queue, worker, cancel)
  sadd('running:' .. worker, token)
  if cancel then
    sadd('marked:' .. worker, token)
  end
  count('activities', queue, 1)
end

local function free_activity(token, queue, worker, cancel)
  srem('running:' .. worker, token)
  if cancel then
    srem('marked:' .. worker, token)
  end
  count('activities', queue, -1)
end

-- Take an activity out of the indexes; its row is the caller's business.
local function unlist_activity(token, row)
  if row.worker == '' then
    zrem('visible' .. lane(lane_name(row.queue, row.limit_key), row.priority), token)
  else
    free_activity(token, row.queue, row.worker, row.cancel)
  end
end

-- As `store_activity`. One of the same name that a worker still runs, of a time before lives had
-- names, is forgotten.
local function store_new_activity(id, execution, command, life, row)
  local key, field = activities_key(id, life), field_of(execution, command)
  note_attempt(id, execution, command, life, row)
  if redis.call('HSETNX', key, field, pack_activity(row)) == 0 then
    unlist_activity(token_of(id, execution, command, life), load_activity(id, execution, command, life))
    store_activity(id, execution, command, life, row)
  end
end

local function drop_activity(id, execution, command, life, row)
  redis.call('HDEL', activities_key(id, life), field_of(execution, command))
  if row.attempt > 1 then
    redis.call('ZREM', P .. 'retried', token_of(id, execution, command, life))
  end
  unlist_activity(token_of(id, execution, command, life), row)
end

-- Let the worker that runs an activity hear that it is to stop. Not gathered: in the same batch it may
-- end, and removals go first.
local function mark_activity(id, execution, command, life, row, event)
  row.cancel = event
  store_activity(id, execution, command, life, row)
  redis.call('SADD', P .. 'marked:' .. row.worker, token_of(id, execution, command, life))
end

-- Drop an activity that nobody wants any more: tell the worker that runs it, or else delete it.
local function stop_activity(id, execution, command, life, row)
  if row.worker == '' then
    drop_activity(id, execution, command, life, row)
  else
    mark_activity(id, execution, command, life, row, '')
  end
end

-- Give an activity back to all.
local function offer_activity(id, execution, command, life, row, visible_at)
  local token = token_of(id, execution, command, life)
  if row.worker ~= '' then
    free_activity(token, row.queue, row.worker, row.cancel)
  end
  row.worker = ''
  row.visible_at = visible_at
  store_activity(id, execution, command, life, row)
  zadd('visible' .. waiting_lane(row.queue, row.priority, row.limit_key), visible_at, token)
end

-- Return all activities of one life of an instance: execution, command, row, life for each.
local function each_activity(id, life, visit)
  local rows = redis.call('HGETALL', activities_key(id, life))
  for at = 1, #rows, 2 do
    local execution, command = string.match(rows[at], '^(%d+):(.*)$')
    visit(tonumber(execution), command, unpack_activity(rows[at + 1]), life)
  end
end

-- Return the fields of an ActivityTask, in its order.
local function describe(id, execution, command, life, row)
  return {
    id, execution, command, life, row.activity, row.queue, row.input, row.options, row.attempt,
    exact(row.scheduled_at), row.failure, row.priority, row.progress, row.limit_key or '',
  }
end

-- The same, and when it may begin, or '' if a worker holds it.
local function describe_unfinished(id, execution, command, life, row)
  local described = describe(id, execution, command, life, row)
  described[#described + 1] = row.worker == '' and exact(row.visible_at) or ''
  return described
end
