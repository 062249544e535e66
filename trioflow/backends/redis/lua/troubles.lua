-- Which instances are in trouble; what that means is said in `InstanceFilter`. Needs activities and
-- reading. `suspended` is a status, and nothing of it is here.

local living = {}

-- Return whether a worker has a row and its own lease is not over.
local function lives(worker)
  if living[worker] == nil then
    local beat = redis.call('ZSCORE', P .. 'workers', worker)
    local read, serves = pcall(cmsgpack.unpack, redis.call('HGET', P .. 'serves', worker) or '')
    local lease = read and type(serves) == 'table' and serves[3]
    living[worker] = beat and (not lease or tonumber(beat) + lease >= now) and true or false
  end
  return living[worker]
end

-- Which queues living workers serve: for instances, and for activities. One that does not say may
-- serve any.
local served
local function is_served(kind, queue)
  if not served then
    served = { {}, {} }
    for _, worker in ipairs(redis.call('ZRANGE', P .. 'workers', 0, -1)) do
      if lives(worker) then
        local packed = redis.call('HGET', P .. 'serves', worker) or ''
        local read, serves = pcall(cmsgpack.unpack, packed)
        if not read or type(serves) ~= 'table' then
          served.any = true
        else
          for each = 1, 2 do
            for _, name in ipairs(serves[each]) do
              served[each][name] = true
            end
          end
        end
      end
    end
  end
  return served.any or served[kind][queue]
end

-- Return whether a free activity, or a held one, is the trouble.
local function is_trouble(where, activity)
  if activity.damaged then
    return false
  end
  if where.trouble == 'retrying' then
    return activity.attempt > 1
  end
  if where.trouble == 'held' then
    return activity.worker ~= '' and not lives(activity.worker)
  end
  if activity.worker ~= '' then
    return false
  end
  if where.trouble == 'overdue' then
    return activity.visible_at <= now - where.trouble_after
  end
  return activity.visible_at <= now and not is_served(2, activity.queue)
end

-- Return whether a worker that lives holds an instance without doing anything.
local function is_stuck(id, ready_at, turns, wake_at, held_at, created_at, since)
  local seen_at = held_at and held_at ~= '' and held_at or created_at
  if not seen_at or tonumber(seen_at) > since then
    return false
  end
  wake_at = tonumber(wake_at or '') or INF
  -- What was unread when it was taken has no time; what came later makes it ready from then on.
  return tonumber(turns) == 0 or wake_at <= since or ready_at <= since
    or ready_at == INF and redis.call('HLEN', P .. 'x:' .. id) > 0
end

-- Return whether the row of a running instance is the trouble, whatever its activities are.
local function is_row_trouble(where, id, row)
  if where.trouble == 'retrying' then
    return false
  end
  local since = now - where.trouble_after
  local worker = row[4] or ''
  if where.trouble == 'held' then
    if worker == '' or not lives(worker) then
      return worker ~= ''
    end
    local ready_at = tonumber(redis.call('ZSCORE', P .. 'held:' .. worker, id) or '') or INF
    return is_stuck(id, ready_at, row[8], row[9], row[10], row[11], since)
  end
  if worker ~= '' then
    return false
  end
  local place = place_of(row[5] or '', row[6], row[7] and row[7] ~= '')
  local ready_at = tonumber(redis.call('ZSCORE', P .. place, id) or '')
  if where.trouble == 'overdue' then
    return ready_at and ready_at <= since
  end
  return ready_at and ready_at <= now and not is_served(1, row[5] or '')
end

local function row_of(id)
  local row = redis.call(
    'HMGET', P .. 'i:' .. id, 'status', 'execution', 'life', 'worker', 'queue', 'priority', 'deaths',
    'turns', 'wake_at', 'held_at', 'created_at'
  )
  return row[1] == 'running' and row or nil
end

function in_trouble(where, id)
  local row = row_of(id)
  if not row then
    return false
  end
  if is_row_trouble(where, id, row) then
    return true
  end
  local found = false
  each_activity(id, row[3] or '', function(execution, _, activity)
    found = found or execution == tonumber(row[2]) and is_trouble(where, activity)
  end)
  return found
end

-- Visit the sorted sets of all that waits for a worker: instances if `kind` is 1, activities if 2; of
-- those queues alone that `wanted` returns true for. Ends when `visit` returns true.
local function each_place(kind, wanted, visit)
  local function each_lane(name, ...)
    local priorities = redis.call('SMEMBERS', P .. 'lanes:' .. name)
    priorities[#priorities + 1] = 0
    for _, priority in ipairs(priorities) do
      for _, what in ipairs({ ... }) do
        if visit(what .. lane(name, priority)) then
          return true
        end
      end
    end
  end
  for _, queue in ipairs(redis.call('SMEMBERS', P .. 'queues')) do
    if not wanted(queue) then
      -- nothing in it can be meant
    elseif kind == 1 then
      if each_lane(queue, 'ready', 'suspect') then
        return
      end
    else
      if each_lane(queue, 'visible') then
        return
      end
      for _, key in ipairs(redis.call('ZRANGE', P .. 'keys:' .. queue, 0, -1)) do
        if each_lane(lane_name(queue, key), 'visible') then
          return
        end
      end
    end
  end
end

-- Return the ids of instances that are in a trouble, `most` of them at most, in any order; then where
-- to go on, or ''. What waits is read as far as it is the trouble. Of what is held, which may all be
-- well, about `size` are looked at, and the next call goes on from `from`.
local function candidates(where, most, size, from)
  local found, ids = {}, {}
  local function add(id)
    if not found[id] then
      found[id] = true
      ids[#ids + 1] = id
    end
    return #ids >= most
  end
  local function add_token(token)
    local id, execution, command, life = parse_token(token)
    local row = id and not found[id] and row_of(id)
    if row and tonumber(row[2]) == execution and (row[3] or '') == life then
      local activity = load_activity(id, execution, command, life)
      if activity and is_trouble(where, activity) then
        add(id)
      end
    end
    return #ids >= most
  end
  local function add_row(id)
    local row = row_of(id)
    if row and is_row_trouble(where, id, row) then
      add(id)
    end
    return #ids >= most
  end
  -- The same for what a worker holds, of which there is much: it asks for less.
  local function add_held(id, worker, ready_at)
    local key = P .. 'i:' .. id
    if not lives(worker) then
      return redis.call('HGET', key, 'status') == 'running' and add(id)
    end
    local row = redis.call('HMGET', key, 'status', 'turns', 'wake_at', 'held_at', 'created_at')
    local since = now - where.trouble_after
    if row[1] == 'running'
      and is_stuck(id, tonumber(ready_at) or INF, row[2], row[3], row[4], row[5], since) then
      add(id)
    end
    return #ids >= most
  end
  -- Go through a sorted set from its beginning up to a score.
  local function through(key, last, visit)
    local at = 0
    while true do
      local part = redis.call('ZRANGE', P .. key, at, at + 999, 'WITHSCORES')
      for n = 1, #part, 2 do
        if tonumber(part[n + 1]) > last then
          return false
        end
        if visit(part[n]) then
          return true
        end
      end
      if #part < 2000 then
        return false
      end
      at = at + 1000
    end
  end
  -- Go through what workers hold, one worker after the other. A scan meets all that is there from its
  -- beginning to its end.
  local function through_held()
    local names = redis.call('HKEYS', P .. 'names')
    table.sort(names)
    local after, what, cursor = '', 1, '0'
    if from ~= '' then
      after, what, cursor = unpack(cmsgpack.unpack(from))
    end
    local seen = 0
    for _, worker in ipairs(names) do
      if worker >= after then
        if worker > after then
          what, cursor = 1, '0'
        end
        while what <= 2 do
          local scan, key, step, visit = 'ZSCAN', 'held:', 2, add_held
          if what == 2 then
            scan, key, step, visit = 'SSCAN', 'running:', 1, add_token
          end
          local part = { '0', {} }
          if what == 1 or not lives(worker) then
            part = redis.call(scan, P .. key .. worker, cursor, 'COUNT', 1000)
          end
          for n = 1, #part[2], step do
            if visit(part[2][n], worker, part[2][n + 1]) then
              return ''
            end
            seen = seen + 1
          end
          cursor = part[1]
          if cursor == '0' then
            what = what + 1
          end
          if seen >= size then
            return cmsgpack.pack({ worker, what, cursor })
          end
        end
      end
    end
    return ''
  end
  if where.trouble == 'retrying' then
    through('retried', INF, add_token)
  elseif where.trouble == 'held' then
    return ids, through_held()
  else
    local last = where.trouble == 'overdue' and now - where.trouble_after or now
    for kind, visit in ipairs({ add_row, add_token }) do
      each_place(kind, function(queue)
        return #ids < most and (where.trouble == 'overdue' or not is_served(kind, queue))
      end, function(place)
        return through(place, last, visit)
      end)
    end
  end
  return ids, ''
end
